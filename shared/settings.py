"""Settings from the environment: one frozen struct per concern, read once in `__main__`, all problems told at once.

Names are `CADENCE_*`. What may change while a process runs is not here: it is a setting in the database.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from shared.environment_variables import PREFIX, Environment
from shared.limits import WhenUncounted
from shared.logging import LogFormat
from shared.secrets import SecretKeyring
from shared.security.key_wrapping import read_keys
from shared.weak_secrets import weakness_of_password, weakness_of_secret, weakness_of_url

DEFAULT_PACKAGE_CACHE = ".cadence/package-cache"
MIN_SECRET_CHARS = 32
"""RFC 7518 §3.2: an HS256 key has at least the size of the hash output, 256 bits."""

EnvironmentName = Literal["development", "production"]
Egress = Literal["allow", "deny"]
Prewarm = Literal["recent", "all", "none"]


class ProcessSettings(msgspec.Struct, frozen=True):
    environment: EnvironmentName
    log_level: str
    log_format: LogFormat

    @property
    def is_production(self) -> bool:
        return self.environment == "production"


class VaultSettings(msgspec.Struct, frozen=True):
    """The key service, HashiCorp Vault or OpenBao. `token_file` is read for every request: an agent that renews the
    token writes it anew. `mount` is where the transit engine is.
    """

    url: str
    key_name: str
    token: str = ""
    token_file: Path | None = None
    mount: str = "transit"


class SecuritySettings(msgspec.Struct, frozen=True):
    """`secret_key` signs sessions, `worker_token` is what workers show to the control plane's `/internal` routes.

    `keyring` holds the key-encryption keys of the environment; those of `keys_file` come before them, and with `vault`
    both only open what they wrapped earlier.
    """

    secret_key: str
    jwt_algorithm: str
    access_token_minutes: int
    keyring: SecretKeyring
    worker_token: str
    keys_file: Path | None = None
    vault: VaultSettings | None = None


class PackageStoreSettings(msgspec.Struct, frozen=True):
    """Where plugin packages live: a directory, or a bucket when `s3_bucket_name` is set.

    `index_url` is the package index their dependencies come from; None is PyPI. It may hold a password.
    """

    storage_root: Path | None
    s3_bucket_name: str | None
    s3_endpoint_url: str | None
    s3_region: str
    s3_access_key_id: str | None
    s3_secret_access_key: str | None
    index_url: str | None = None


class DirectoryPluginSettings(msgspec.Struct, frozen=True):
    """Plugins on the server's own disk: `{pid}/{version}/plugin.py` below each, for tenants below `{org_id}`."""

    system_directory: Path | None = None
    tenant_root: Path | None = None


class LimitSettings(msgspec.Struct, frozen=True):
    """`when_uncounted`: what becomes of requests while Redis takes no writes, or nobody knows an organization's limits.

    `requests_per_minute` is for each caller where no organization's tier says it.
    """

    when_uncounted: WhenUncounted = "open"
    requests_per_minute: int = 6_000


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
    package_cache: Path = Path(DEFAULT_PACKAGE_CACHE)
    directory_plugins: DirectoryPluginSettings | None = None
    single_sign_on: "SingleSignOnSettings | None" = None
    local_passwords: bool = True
    audit_retention_days: int = 400
    usage_retention_days: int = 90
    limits: LimitSettings = LimitSettings()
    hsts_seconds: int = 0


class ServingSettings(msgspec.Struct, frozen=True):
    """How a worker serves: seconds that live streams get when it stops, and between comments on a silent stream.

    For `resume_seconds` after its end the events of a run can be asked for again. `max_concurrent_runs` is far beyond
    what one core can stream; it keeps a flood from taking the memory of the runs that are going on.
    """

    drain_seconds: int = 30
    heartbeat_seconds: int = 15
    resume_seconds: int = 600
    max_concurrent_runs: int = 2_000


class PoolSettings(msgspec.Struct, frozen=True):
    """How much a worker keeps in memory, and for how long what nobody uses.

    `hot_replication` workers keep each hot-tier instance built.
    `memory_mb` is for all built orchestrators together, with the processes of their plugins. At start the snapshots of
    `prewarm` are fetched: `recent` are the `prewarm_count` used last.
    """

    max_hot_pool_size: int = 200
    demand_ttl_seconds: int = 900
    warm_ttl_seconds: int = 3600
    hot_replication: int = 1
    memory_mb: int = 2048
    prewarm: Prewarm = "recent"
    prewarm_count: int = 100


class PluginHostSettings(msgspec.Struct, frozen=True):
    """What one plugin host may use, and whether it has a network.

    `memory_mb` is what may be resident; `cpu_seconds` is for each call, on all its threads together.
    """

    egress: Egress = "allow"
    memory_mb: int = 512
    cpu_seconds: int = 60
    open_files: int = 256
    file_mb: int = 64
    idle_seconds: int = 600


class SingleSignOnSettings(msgspec.Struct, frozen=True):
    """The OpenID provider. `redirect_url` is our callback as it is registered there.

    `roles_claim` is where a token lists the user's roles. Who has one of `sys_admin_roles` is sys_admin, and who has
    one of `org_admin_roles` is admin of the organization that the domain of their email belongs to. Where none are
    named, the provider has no say in it.
    """

    issuer: str
    client_id: str
    client_secret: str
    redirect_url: str
    scopes: tuple[str, ...]
    roles_claim: str
    org_admin_roles: frozenset[str]
    sys_admin_roles: frozenset[str]


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
    trusted_proxies: tuple[str, ...] = ()
    serving: ServingSettings = ServingSettings()
    pool: PoolSettings = PoolSettings()
    plugin_hosts: PluginHostSettings = PluginHostSettings()
    limits: LimitSettings = LimitSettings()


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
        package_cache=_package_cache(env),
        directory_plugins=_directory_plugins(env),
        single_sign_on=_single_sign_on(env, process),
        hsts_seconds=env.integer("HSTS_SECONDS", 0, 0, 63_072_000),
        audit_retention_days=env.integer("AUDIT_RETENTION_DAYS", 400, 0, 36_500),
        usage_retention_days=env.integer("USAGE_RETENTION_DAYS", 90, 0, 36_500),
        local_passwords=env.flag("LOCAL_PASSWORDS", default=True),
        limits=_limits(env),
    )
    if not settings.local_passwords and settings.single_sign_on is None:
        env.problems.append(f"{PREFIX}LOCAL_PASSWORDS: nobody could log in without {PREFIX}OIDC_ISSUER")
    if process.is_production and "*" in settings.cors_origins:
        env.problems.append(f"{PREFIX}CORS_ORIGINS: '*' is not allowed in production, where requests carry credentials")
    _refuse_weak(env, settings, settings.postgres_url)
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
        package_cache=_package_cache(env),
        allow_private_model_hosts=env.flag("ALLOW_PRIVATE_MODEL_HOSTS", default=False),
        trusted_proxies=_networks(env),
        serving=ServingSettings(
            drain_seconds=env.integer("DRAIN_SECONDS", 30, 0, 3600),
            heartbeat_seconds=env.integer("STREAM_HEARTBEAT_SECONDS", 15, 1, 300),
            resume_seconds=env.integer("STREAM_RESUME_SECONDS", 600, 600, 7 * 24 * 3600),
            max_concurrent_runs=env.integer("MAX_CONCURRENT_RUNS", 2_000, 1, 100_000),
        ),
        pool=PoolSettings(
            max_hot_pool_size=env.integer("MAX_HOT_POOL_SIZE", 200, 1, 100_000),
            demand_ttl_seconds=env.integer("DEMAND_TTL_SECONDS", 900, 1, 7 * 24 * 3600),
            warm_ttl_seconds=env.integer("WARM_TTL_SECONDS", 3600, 1, 7 * 24 * 3600),
            hot_replication=env.integer("HOT_REPLICATION", 1, 1, 100),
            memory_mb=env.integer("POOL_MEMORY_MB", 2048, 16, 1024 * 1024),
            prewarm=_prewarm(env),
            prewarm_count=env.integer("PREWARM_COUNT", 100, 1, 100_000),
        ),
        plugin_hosts=PluginHostSettings(
            egress="deny" if env.choice("PLUGIN_EGRESS", ("allow", "deny"), "allow") == "deny" else "allow",
            memory_mb=env.integer("PLUGIN_HOST_MEMORY_MB", 512, 64, 1024 * 1024),
            cpu_seconds=env.integer("PLUGIN_HOST_CPU_SECONDS", 60, 1, 24 * 3600),
            open_files=env.integer("PLUGIN_HOST_OPEN_FILES", 256, 32, 65_536),
            file_mb=env.integer("PLUGIN_HOST_FILE_MB", 64, 1, 1024 * 1024),
            idle_seconds=env.integer("PLUGIN_HOST_IDLE_SECONDS", 600, 1, 7 * 24 * 3600),
        ),
        limits=_limits(env),
    )
    _refuse_weak(env, settings, settings.mongo_url)
    return env.finish(settings)


def _limits(env: Environment) -> LimitSettings:
    when = env.choice("LIMITS_WHEN_UNCOUNTED", ("open", "closed"), "open")
    return LimitSettings(
        when_uncounted="closed" if when == "closed" else "open",
        requests_per_minute=env.integer("CALLER_REQUESTS_PER_MINUTE", 6_000, 1, 1_000_000),
    )


def _refuse_weak(env: Environment, settings: ControlPlaneSettings | WorkerSettings, database_url: str) -> None:
    """In production: secrets that are the same as another one, and passwords that everybody tries first."""
    if not settings.process.is_production:
        return
    security, packages = settings.security, settings.packages
    if security.secret_key and security.secret_key == security.worker_token:
        env.problems.append(f"{PREFIX}WORKER_TOKEN: is the same as {PREFIX}SECRET_KEY; each needs one of its own")
    database = "POSTGRES_URL" if isinstance(settings, ControlPlaneSettings) else "MONGO_URL"
    weaknesses = {
        database: weakness_of_url(database_url),
        "REDIS_URL": weakness_of_url(settings.redis_url),
        "BROKER_URL": weakness_of_url(settings.broker_url),
        "S3_SECRET_ACCESS_KEY": weakness_of_password(packages.s3_secret_access_key),
    }
    if isinstance(settings, ControlPlaneSettings) and settings.single_sign_on is not None:
        weaknesses["OIDC_CLIENT_SECRET"] = weakness_of_password(settings.single_sign_on.client_secret)
    env.problems += [f"{PREFIX}{name}: {weakness}" for name, weakness in weaknesses.items() if weakness]


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
        if process.is_production and (weakness := weakness_of_secret(text)):
            raise ValueError(weakness)
        return text

    def keys(text: str) -> SecretKeyring:
        keyring = SecretKeyring.parse(text)
        if process.is_production and keyring.weakness:
            raise ValueError(keyring.weakness)
        return keyring

    keys_file, vault = _keys_file(env, process), _vault(env, process)
    # Only where keys come from elsewhere may these be left out.
    default = "" if env.text("ENCRYPTION_KEYS_FILE") or vault else None
    return SecuritySettings(
        secret_key=env.parsed("SECRET_KEY", secret, ""),
        jwt_algorithm=env.choice("JWT_ALGORITHM", ("HS256",), "HS256"),
        access_token_minutes=env.integer("ACCESS_TOKEN_EXPIRE_MINUTES", 30, 1, 24 * 60),
        keyring=env.parsed("ENCRYPTION_KEYS", keys, SecretKeyring({}), default=default),
        worker_token=env.parsed("WORKER_TOKEN", secret, ""),
        keys_file=keys_file,
        vault=vault,
    )


def _keys_file(env: Environment, process: ProcessSettings) -> Path | None:
    def readable(text: str) -> Path:
        try:
            weakness = read_keys(Path(text)).weakness
            if process.is_production and weakness:
                raise ValueError(weakness)
        except OSError as error:
            raise ValueError(f"{text} cannot be read ({error.strerror})") from None
        return Path(text).resolve()

    return env.parsed("ENCRYPTION_KEYS_FILE", readable, None, default="")


def _vault(env: Environment, process: ProcessSettings) -> VaultSettings | None:
    if not env.text("VAULT_URL"):
        return None
    token_file = env.text("VAULT_TOKEN_FILE")
    if not token_file and not env.text("VAULT_TOKEN"):
        env.problems.append(f"{PREFIX}VAULT_URL needs {PREFIX}VAULT_TOKEN_FILE or {PREFIX}VAULT_TOKEN")
    return VaultSettings(
        url=env.url("VAULT_URL", schemes=("https",) if process.is_production else ("https", "http")).rstrip("/"),
        key_name=env.text("VAULT_KEY", default="cadence"),
        token=env.text("VAULT_TOKEN"),
        token_file=Path(token_file).resolve() if token_file else None,
        mount=env.text("VAULT_MOUNT", default="transit"),
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
        index_url=_index(env),
    )


def _package_cache(env: Environment) -> Path:
    return Path(env.text("PACKAGE_CACHE", default=DEFAULT_PACKAGE_CACHE)).resolve()


def _directory_plugins(env: Environment) -> DirectoryPluginSettings | None:
    system, tenants = env.text("SYSTEM_PLUGINS_DIR"), env.text("TENANT_PLUGINS_ROOT")
    if not env.flag("ENABLE_DIRECTORY_PLUGINS", default=False):
        return None
    if not system and not tenants:
        env.problems.append(
            f"{PREFIX}ENABLE_DIRECTORY_PLUGINS needs {PREFIX}SYSTEM_PLUGINS_DIR or {PREFIX}TENANT_PLUGINS_ROOT"
        )
    return DirectoryPluginSettings(
        Path(system).resolve() if system else None, Path(tenants).resolve() if tenants else None
    )


def _single_sign_on(env: Environment, process: ProcessSettings) -> SingleSignOnSettings | None:
    if not env.text("OIDC_ISSUER"):
        return None
    schemes = ("https",) if process.is_production else ("https", "http")
    return SingleSignOnSettings(
        issuer=env.url("OIDC_ISSUER", schemes=schemes),
        client_id=env.text("OIDC_CLIENT_ID"),
        client_secret=env.text("OIDC_CLIENT_SECRET"),
        redirect_url=env.url("OIDC_REDIRECT_URL", schemes=schemes),
        scopes=tuple(env.text("OIDC_SCOPES", default="openid profile email").split()),
        roles_claim=env.text("OIDC_ROLES_CLAIM", default="roles"),
        org_admin_roles=frozenset(env.names("OIDC_ORG_ADMIN_ROLES")),
        sys_admin_roles=frozenset(env.names("OIDC_SYS_ADMIN_ROLES")),
    )


def _prewarm(env: Environment) -> Prewarm:
    which = env.choice("PREWARM", ("recent", "all", "none"), "recent")
    return "all" if which == "all" else "none" if which == "none" else "recent"


def _index(env: Environment) -> str | None:
    value = env.text("PLUGIN_INDEX_URL")
    if value and urlsplit(value).scheme not in ("http", "https", "file"):
        env.problems.append(f"{PREFIX}PLUGIN_INDEX_URL: the URL must start with https://, http:// or file://")
    return value or None


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
