"""The fleet of runtime workers, as admins see it."""
