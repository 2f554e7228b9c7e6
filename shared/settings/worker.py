"""What a worker is told: how it serves, how much it keeps, and what its plugins may use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from shared.environment_variables import Environment
from shared.settings.connections import read_broker, read_networks
from shared.settings.limits import LimitSettings, read_limits
from shared.settings.packages import (
    PackageStoreSettings,
    read_package_cache,
    read_packages,
)
from shared.settings.process import ProcessSettings, read_process
from shared.settings.security import SecuritySettings, read_security
from shared.settings.weakness import refuse_weak

Egress = Literal["allow", "deny"]
Prewarm = Literal["recent", "all", "none"]


class ServingSettings(msgspec.Struct, frozen=True):
    """How a worker serves: seconds that live streams get when it stops, and between comments on a silent stream.

    For `resume_seconds` after its end the events of a run can be asked for again. `max_concurrent_runs` is far beyond
    what one core can stream, since most of them may be waiting for a tool or a model; it keeps a flood from taking the
    memory of the runs that are going on.
    """

    drain_seconds: int = 30
    heartbeat_seconds: int = 15
    resume_seconds: int = 600
    max_concurrent_runs: int = 6_000


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


def read_worker_settings(variables: Mapping[str, str]) -> WorkerSettings:
    """Raises ConfigurationInvalid listing every bad variable."""
    env = Environment(variables)
    process = read_process(env)
    host = env.text("WORKER_HOST", default="127.0.0.1")
    port = env.integer("WORKER_PORT", 8100, 1, 65535)
    settings = WorkerSettings(
        process=process,
        security=read_security(env, process),
        packages=read_packages(env),
        host=host,
        port=port,
        public_url=env.text("WORKER_URL", default=f"http://{host}:{port}"),
        control_plane_url=env.url("CONTROL_PLANE_URL", schemes=("http", "https")).rstrip("/"),
        mongo_url=env.url("MONGO_URL", schemes=("mongodb", "mongodb+srv")),
        redis_url=env.url("REDIS_URL", schemes=("redis", "rediss", "unix")),
        broker_url=read_broker(env),
        package_cache=read_package_cache(env),
        allow_private_model_hosts=env.flag("ALLOW_PRIVATE_MODEL_HOSTS", default=False),
        trusted_proxies=read_networks(env),
        serving=ServingSettings(
            drain_seconds=env.integer("DRAIN_SECONDS", 30, 0, 3600),
            heartbeat_seconds=env.integer("STREAM_HEARTBEAT_SECONDS", 15, 1, 300),
            resume_seconds=env.integer("STREAM_RESUME_SECONDS", 600, 600, 7 * 24 * 3600),
            max_concurrent_runs=env.integer("MAX_CONCURRENT_RUNS", 6_000, 1, 100_000),
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
        limits=read_limits(env),
    )
    if process.is_production:
        refuse_weak(
            env,
            settings.security,
            urls={"MONGO_URL": settings.mongo_url, "REDIS_URL": settings.redis_url, "BROKER_URL": settings.broker_url},
            passwords={"S3_SECRET_ACCESS_KEY": settings.packages.s3_secret_access_key},
        )
    return env.finish(settings)


def _prewarm(env: Environment) -> Prewarm:
    which = env.choice("PREWARM", ("recent", "all", "none"), "recent")
    return "all" if which == "all" else "none" if which == "none" else "recent"
