"""Purging of deleted organizations: nothing of them is left in any store (decision 0046)."""
