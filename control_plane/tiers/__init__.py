"""What each tier allows, and whether an organization has room for one more."""
