"""What a process of the control plane is told."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.environment_variables import PREFIX, Environment
from shared.settings.connections import read_broker, read_networks
from shared.settings.limits import LimitSettings, read_limits
from shared.settings.packages import (
    DEFAULT_PACKAGE_CACHE,
    DirectoryPluginSettings,
    PackageStoreSettings,
    read_directory_plugins,
    read_package_cache,
    read_packages,
)
from shared.settings.process import ProcessSettings, read_process
from shared.settings.security import SecuritySettings, read_security
from shared.settings.single_sign_on import SingleSignOnSettings, read_single_sign_on
from shared.settings.weakness import refuse_weak


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
    single_sign_on: SingleSignOnSettings | None = None
    local_passwords: bool = True
    audit_retention_days: int = 400
    usage_retention_days: int = 90
    limits: LimitSettings = LimitSettings()
    hsts_seconds: int = 0


def read_control_plane_settings(variables: Mapping[str, str]) -> ControlPlaneSettings:
    """Raises ConfigurationInvalid listing every bad variable."""
    env = Environment(variables)
    process = read_process(env)
    settings = ControlPlaneSettings(
        process=process,
        security=read_security(env, process),
        packages=read_packages(env),
        host=env.text("API_HOST", default="127.0.0.1"),
        port=env.integer("API_PORT", 8000, 1, 65535),
        postgres_url=env.url("POSTGRES_URL", schemes=("postgresql", "postgres")),
        redis_url=env.url("REDIS_URL", schemes=("redis", "rediss", "unix")),
        broker_url=read_broker(env),
        cors_origins=env.names("CORS_ORIGINS"),
        trusted_proxies=read_networks(env),
        allow_private_model_hosts=env.flag("ALLOW_PRIVATE_MODEL_HOSTS", default=False),
        package_cache=read_package_cache(env),
        directory_plugins=read_directory_plugins(env),
        single_sign_on=read_single_sign_on(env, process),
        hsts_seconds=env.integer("HSTS_SECONDS", 0, 0, 63_072_000),
        audit_retention_days=env.integer("AUDIT_RETENTION_DAYS", 400, 0, 36_500),
        usage_retention_days=env.integer("USAGE_RETENTION_DAYS", 90, 0, 36_500),
        local_passwords=env.flag("LOCAL_PASSWORDS", default=True),
        limits=read_limits(env),
    )
    if not settings.local_passwords and settings.single_sign_on is None:
        env.problems.append(f"{PREFIX}LOCAL_PASSWORDS: nobody could log in without {PREFIX}OIDC_ISSUER")
    if process.is_production and "*" in settings.cors_origins:
        env.problems.append(f"{PREFIX}CORS_ORIGINS: '*' is not allowed in production, where requests carry credentials")
    if process.is_production:
        single_sign_on = settings.single_sign_on
        refuse_weak(
            env,
            settings.security,
            urls={
                "POSTGRES_URL": settings.postgres_url,
                "REDIS_URL": settings.redis_url,
                "BROKER_URL": settings.broker_url,
            },
            passwords={
                "S3_SECRET_ACCESS_KEY": settings.packages.s3_secret_access_key,
                "OIDC_CLIENT_SECRET": single_sign_on.client_secret if single_sign_on else None,
            },
        )
    return env.finish(settings)
