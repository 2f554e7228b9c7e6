"""Logging in and out, and what a caller is granted."""
