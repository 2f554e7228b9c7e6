"""Purging an organization: what workers are told, and what they answer."""

from uuid import UUID

import msgspec


class PendingPurge(msgspec.Struct, frozen=True):
    """An organization of which nothing may be left. `digests` are those of its plugin packages.

    `may_drop` says that every live worker has let go of it, so that nobody writes into its database any more.
    """

    org_id: UUID
    digests: tuple[str, ...] = ()
    may_drop: bool = False


class PurgePage(msgspec.Struct, frozen=True):
    purges: tuple[PendingPurge, ...]


class PurgeReport(msgspec.Struct, frozen=True):
    """A worker holds nothing of the organization any more and, if `has_dropped`, has removed its database."""

    worker_id: str
    has_dropped: bool = False
