"""Where plugin packages (zips) are kept: one port, stored under a readable key, verified by digest on every read."""

import hashlib
from typing import Protocol
from uuid import UUID


class PackageStore(Protocol):
    """Bytes by key. Whoever reads says which digest it expects and never sees bytes that do not match."""

    async def put(self, key: str, data: bytes) -> None:
        """Store, replacing what was there. When it returns the bytes are durable. Raises StoreUnavailable."""
        ...

    async def get(self, key: str, *, digest: str) -> bytes:
        """The bytes. Raises PluginLoadFailed when missing or not of this digest, StoreUnavailable."""
        ...

    async def delete(self, key: str) -> None:
        """Remove; nothing happens when it is not there."""
        ...

    async def delete_below(self, prefix: str) -> None:
        """Remove everything in the folder `prefix`, also what no row names. Raises StoreUnavailable."""
        ...

    async def check(self) -> None:
        """Raises StoreUnavailable when packages cannot be read or written right now."""
        ...

    async def close(self) -> None: ...


def digest_of(data: bytes) -> str:
    """SHA-256 hex digest, the identity of a package's content."""
    return hashlib.sha256(data).hexdigest()


def tenant_prefix(org_id: UUID) -> str:
    """The folder of an organization's packages."""
    return f"tenants/{org_id}"


def package_key(org_id: UUID | None, pid: str, version: str) -> str:
    """`tenants/{org_id}/{pid}/{version}/plugin.zip`, or under `system/` without an organization."""
    root = tenant_prefix(org_id) if org_id else "system"
    return f"{root}/{pid}/{version}/plugin.zip"
