"""Where plugin packages live and are kept, and which of them come from a directory."""

from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shared.environment_variables import PREFIX, Environment

DEFAULT_PACKAGE_CACHE = ".cadence/package-cache"


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


def read_packages(env: Environment) -> PackageStoreSettings:
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


def read_package_cache(env: Environment) -> Path:
    return Path(env.text("PACKAGE_CACHE", default=DEFAULT_PACKAGE_CACHE)).resolve()


def read_directory_plugins(env: Environment) -> DirectoryPluginSettings | None:
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


def _index(env: Environment) -> str | None:
    value = env.text("PLUGIN_INDEX_URL")
    if value and urlsplit(value).scheme not in ("http", "https", "file"):
        env.problems.append(f"{PREFIX}PLUGIN_INDEX_URL: the URL must start with https://, http:// or file://")
    return value or None
