"""Real servers out of Python wheels, run as children of this process: no Docker, no packages of the system, no root."""
