import logging
from functools import cached_property


class Loggable:
    """Mix in to get `self.logger`, named after the class."""

    @cached_property
    def logger(self) -> logging.Logger:
        cls = type(self)
        return logging.getLogger(f"{cls.__module__}.{cls.__qualname__}")

    def set_log_level(self, level: int | str) -> None:
        """Only messages of at least this level (`logging.DEBUG`, `"WARNING"`, …) are logged from now on."""
        self.logger.setLevel(level)
