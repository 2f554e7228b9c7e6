"""What can be combined: frameworks, modes, providers and their models."""
