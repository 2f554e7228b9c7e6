"""Which environment a process runs in, and how it logs."""

from typing import Literal

import msgspec

from shared.environment_variables import Environment
from shared.logging import LogFormat

EnvironmentName = Literal["development", "production"]


class ProcessSettings(msgspec.Struct, frozen=True):
    environment: EnvironmentName
    log_level: str
    log_format: LogFormat

    @property
    def is_production(self) -> bool:
        return self.environment == "production"


def read_process(env: Environment) -> ProcessSettings:
    name = env.choice("ENVIRONMENT", ("development", "production"), "development")
    return ProcessSettings(
        environment="production" if name == "production" else "development",
        log_level=env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"),
        log_format="console" if env.choice("LOG_FORMAT", ("json", "console"), "json") == "console" else "json",
    )
