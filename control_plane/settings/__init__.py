"""Settings that change while the platform runs: what there is, who set what, and what follows for each instance."""
