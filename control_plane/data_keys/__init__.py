"""Envelope encryption of secrets: a data key for each organization, stored wrapped (decision 0045)."""
