"""The control plane: owns PostgreSQL and every definition in it; validates, stores, authorizes, publishes."""
