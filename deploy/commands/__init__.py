"""The commands of `cadence`, by noun."""
