"""Settings from the environment: one frozen struct per concern, read once in `__main__`, all problems told at once.

Names are `CADENCE_*`. What may change while a process runs is not here: it is a setting in the database.
"""

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from shared.errors import ConfigurationInvalid
from shared.logging import LogFormat
from shared.secrets import SecretKeyring

T = TypeVar("T")
PREFIX = "CADENCE_"
MIN_SECRET_CHARS = 32
"""RFC 7518 §3.2: an HS256 key has at least the size of the hash output, 256 bits."""

EnvironmentName = Literal["development", "production"]


class ProcessSettings(msgspec.Struct, frozen=True):
    environment: EnvironmentName
    log_level: str
    log_format: LogFormat

    @property
    def is_production(self) -> bool:
        return self.environment == "production"


class SecuritySettings(msgspec.Struct, frozen=True):
    """`secret_key` signs sessions, `worker_token` is what workers show to the control plane's `/internal` routes."""

    secret_key: str
    jwt_algorithm: str
    access_token_minutes: int
    keyring: SecretKeyring
    worker_token: str


class PackageStoreSettings(msgspec.Struct, frozen=True):
    """Where plugin packages live: a directory, or a bucket when `s3_bucket_name` is set."""

    storage_root: Path | None
    s3_bucket_name: str | None
    s3_endpoint_url: str | None
    s3_region: str
    s3_access_key_id: str | None
    s3_secret_access_key: str | None


class ControlPlaneSettings(msgspec.Struct, frozen=True):
    process: ProcessSettings
    security: SecuritySettings
    packages: PackageStoreSettings
    host: str
    port: int
    postgres_url: str
    redis_url: str
    broker_url: str
    cors_origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    allow_private_model_hosts: bool


class ServingSettings(msgspec.Struct, frozen=True):
    """How a worker serves: seconds that live streams get when it stops, and between comments on a silent stream."""

    drain_seconds: int = 30
    heartbeat_seconds: int = 15


class PoolSettings(msgspec.Struct, frozen=True):
    """How much a worker keeps in memory, and for how long what nobody uses."""

    max_hot_pool_size: int = 200
    demand_ttl_seconds: int = 900
    warm_ttl_seconds: int = 3600


class WorkerSettings(msgspec.Struct, frozen=True):
    """`public_url` is how the gateway reaches this process; `control_plane_url` is where snapshots come from."""

    process: ProcessSettings
    security: SecuritySettings
    packages: PackageStoreSettings
    host: str
    port: int
    public_url: str
    control_plane_url: str
    mongo_url: str
    redis_url: str
    broker_url: str
    package_cache: Path
    allow_private_model_hosts: bool
    serving: ServingSettings = ServingSettings()
    pool: PoolSettings = PoolSettings()


class Environment:
    """Reads variables and gathers every problem, so that an operator fixes them in one go."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []

    def text(self, *names: str, default: str | None = None, required: bool = False) -> str:
        """The first of `names` that is set and not empty, else the default."""
        for name in names:
            if value := self._variables.get(PREFIX + name, "").strip():
                return value
        if required and default is None:
            self.problems.append(f"{PREFIX}{names[0]} is not set")
        return default or ""

    def parsed(self, name: str, parse: Callable[[str], T], fallback: T, *, default: str | None = None) -> T:
        """A value run through `parse`; a ValueError or ConfigurationInvalid becomes a problem naming the variable."""
        text = self.text(name, default=default, required=default is None)
        if not text:
            return fallback
        try:
            return parse(text)
        except (ValueError, ConfigurationInvalid) as error:
            self.problems.append(f"{PREFIX}{name}: {error}")
            return fallback

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        def parse(text: str) -> int:
            try:
                value = int(text)
            except ValueError:
                raise ValueError(f"{text!r} is not a whole number") from None
            if not low <= value <= high:
                raise ValueError(f"{value} is not between {low} and {high}")
            return value

        return self.parsed(name, parse, default, default=str(default))

    def flag(self, name: str, *, default: bool) -> bool:
        def parse(text: str) -> bool:
            match text.lower():
                case "1" | "true" | "yes" | "on":
                    return True
                case "0" | "false" | "no" | "off":
                    return False
                case _:
                    raise ValueError(f"{text!r} is neither true nor false")

        return self.parsed(name, parse, default, default=str(default))

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        def parse(text: str) -> str:
            if text not in allowed:
                raise ValueError(f"{text!r} is not one of {', '.join(allowed)}")
            return text

        return self.parsed(name, parse, default, default=default)

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def url(self, *names: str, schemes: tuple[str, ...]) -> str:
        value = self.text(*names, required=True)
        if value and urlsplit(value).scheme not in schemes:
            # The value itself may hold a password, so only the scheme is named.
            self.problems.append(
                f"{PREFIX}{names[0]}: the URL must start with {' or '.join(s + '://' for s in schemes)}"
            )
        return value

    def finish(self, settings: T) -> T:
        """The settings, or ConfigurationInvalid with every problem, one a line."""
        if self.problems:
            raise ConfigurationInvalid("\n".join(self.problems))
        return settings


def read_control_plane_settings(variables: Mapping[str, str]) -> ControlPlaneSettings:
    """Raises ConfigurationInvalid listing every bad variable."""
    env = Environment(variables)
    process = _process(env)
    settings = ControlPlaneSettings(
        process=process,
        security=_security(env, process),
        packages=_packages(env),
        host=env.text("API_HOST", default="127.0.0.1"),
        port=env.integer("API_PORT", 8000, 1, 65535),
        postgres_url=env.url("POSTGRES_URL", schemes=("postgresql", "postgres")),
        redis_url=env.url("REDIS_URL", schemes=("redis", "rediss", "unix")),
        broker_url=_broker(env),
        cors_origins=env.names("CORS_ORIGINS"),
        trusted_proxies=_networks(env),
        allow_private_model_hosts=env.flag("ALLOW_PRIVATE_MODEL_HOSTS", default=False),
    )
    if process.is_production and "*" in settings.cors_origins:
        env.problems.append(f"{PREFIX}CORS_ORIGINS: '*' is not allowed in production, where requests carry credentials")
    return env.finish(settings)


def read_worker_settings(variables: Mapping[str, str]) -> WorkerSettings:
    """Raises ConfigurationInvalid listing every bad variable."""
    env = Environment(variables)
    process = _process(env)
    host = env.text("WORKER_HOST", default="127.0.0.1")
    port = env.integer("WORKER_PORT", 8100, 1, 65535)
    settings = WorkerSettings(
        process=process,
        security=_security(env, process),
        packages=_packages(env),
        host=host,
        port=port,
        public_url=env.text("WORKER_URL", default=f"http://{host}:{port}"),
        control_plane_url=env.url("CONTROL_PLANE_URL", schemes=("http", "https")).rstrip("/"),
        mongo_url=env.url("MONGO_URL", schemes=("mongodb", "mongodb+srv")),
        redis_url=env.url("REDIS_URL", schemes=("redis", "rediss", "unix")),
        broker_url=_broker(env),
        package_cache=Path(env.text("PACKAGE_CACHE", default=".cadence/package-cache")).resolve(),
        allow_private_model_hosts=env.flag("ALLOW_PRIVATE_MODEL_HOSTS", default=False),
        serving=ServingSettings(
            drain_seconds=env.integer("DRAIN_SECONDS", 30, 0, 3600),
            heartbeat_seconds=env.integer("STREAM_HEARTBEAT_SECONDS", 15, 1, 300),
        ),
        pool=PoolSettings(
            max_hot_pool_size=env.integer("MAX_HOT_POOL_SIZE", 200, 1, 100_000),
            demand_ttl_seconds=env.integer("DEMAND_TTL_SECONDS", 900, 1, 7 * 24 * 3600),
            warm_ttl_seconds=env.integer("WARM_TTL_SECONDS", 3600, 1, 7 * 24 * 3600),
        ),
    )
    return env.finish(settings)


def _process(env: Environment) -> ProcessSettings:
    name = env.choice("ENVIRONMENT", ("development", "production"), "development")
    return ProcessSettings(
        environment="production" if name == "production" else "development",
        log_level=env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"),
        log_format="console" if env.choice("LOG_FORMAT", ("json", "console"), "json") == "console" else "json",
    )


def _security(env: Environment, process: ProcessSettings) -> SecuritySettings:
    def secret(text: str) -> str:
        if len(text) < MIN_SECRET_CHARS:
            raise ValueError(f"needs at least {MIN_SECRET_CHARS} characters")
        if process.is_production and len(set(text)) < 10:
            raise ValueError("looks like a placeholder; generate one with `openssl rand -hex 32`")
        return text

    return SecuritySettings(
        secret_key=env.parsed("SECRET_KEY", secret, ""),
        jwt_algorithm=env.choice("JWT_ALGORITHM", ("HS256",), "HS256"),
        access_token_minutes=env.integer("ACCESS_TOKEN_EXPIRE_MINUTES", 30, 1, 24 * 60),
        keyring=env.parsed("ENCRYPTION_KEYS", SecretKeyring.parse, SecretKeyring({"unset": bytes(32)})),
        worker_token=env.parsed("WORKER_TOKEN", secret, ""),
    )


def _packages(env: Environment) -> PackageStoreSettings:
    uses_s3 = env.flag("PLUGIN_S3_ENABLED", default=False)
    root = env.text("STORAGE_ROOT")
    if not uses_s3 and not root:
        env.problems.append(f"{PREFIX}STORAGE_ROOT is not set (or set {PREFIX}PLUGIN_S3_ENABLED=true)")
    return PackageStoreSettings(
        storage_root=Path(root).resolve() if root and not uses_s3 else None,
        s3_bucket_name=env.text("S3_BUCKET_NAME", default="cadence-plugins") if uses_s3 else None,
        s3_endpoint_url=env.text("S3_ENDPOINT_URL") or None,
        s3_region=env.text("S3_REGION", default="us-east-1"),
        s3_access_key_id=env.text("S3_ACCESS_KEY_ID") or None,
        s3_secret_access_key=env.text("S3_SECRET_ACCESS_KEY") or None,
    )


def _broker(env: Environment) -> str:
    return env.url("BROKER_URL", "RABBITMQ_URL", schemes=("amqp", "amqps", "nats"))


def _networks(env: Environment) -> tuple[str, ...]:
    networks = env.names("TRUSTED_PROXIES")
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            env.problems.append(f"{PREFIX}TRUSTED_PROXIES: {network!r} is not an address or a network")
    return networks
