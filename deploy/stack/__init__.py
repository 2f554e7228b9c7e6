"""The whole product on this machine: what `cadence up` starts, watches and stops, and what it keeps between starts."""
