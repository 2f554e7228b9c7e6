"""A runtime worker: builds orchestrators from snapshots and serves their runs. Owns nothing that a kill could lose."""
