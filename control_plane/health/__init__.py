"""Whether this process lives, and whether what it depends on answers."""
