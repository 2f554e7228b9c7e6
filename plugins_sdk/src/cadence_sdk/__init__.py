"""Write plugins for Cadence."""
