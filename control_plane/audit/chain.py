"""Entries that hold each other: each one's hash covers the one before."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.tables import PLATFORM, AuditChain, AuditEntry
from shared.ids import new_id

BATCH = 1000
_COVERED = tuple(column.key for column in AuditEntry.__mapper__.column_attrs if column.key != "hash")


class ChainReport(msgspec.Struct, frozen=True):
    """`broken_at` is the sequence number of the first entry that is not as it was written, or is not there."""

    org_id: UUID | None
    entries: int
    broken_at: int | None = None
    problem: str | None = None


async def append(session: AsyncSession, org_id: UUID | None, fields: dict[str, Any]) -> None:
    """Add an entry to an organization's chain, or to the platform's. Call it last: the end of the chain stays locked
    until the transaction ends, so that entries follow each other in the order of the commits.
    """
    chain = org_id or PLATFORM
    taken = (
        insert(AuditChain)
        .values(org_id=chain, sequence=1, hash="", pruned_sequence=0, pruned_hash="")
        .on_conflict_do_update(index_elements=[AuditChain.org_id], set_={"sequence": AuditChain.sequence + 1})
        .returning(AuditChain.sequence, AuditChain.hash)
    )
    sequence, previous = (await session.execute(taken)).one()
    entry = {"id": new_id(), "org_id": org_id, "sequence": sequence, "previous_hash": previous, **fields}
    entry["hash"] = entry_hash(entry)
    ended = update(AuditChain).where(AuditChain.org_id == chain).values(hash=entry["hash"]).cte("ended")
    await session.execute(insert(AuditEntry).values(entry).add_cte(ended))


def entry_hash(entry: dict[str, Any]) -> str:
    """SHA-256 of everything in an entry but the hash itself, written in one way only."""
    covered = {name: entry[name] for name in _COVERED}
    covered["at"] = entry["at"].timestamp()
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


async def verify(session: AsyncSession) -> AsyncIterator[ChainReport]:
    """Walk through every chain that the session sees."""
    for chain in (await session.execute(select(AuditChain).order_by(AuditChain.org_id))).scalars().all():
        yield await _verify_one(session, chain)


async def _verify_one(session: AsyncSession, chain: AuditChain) -> ChainReport:
    org_id = None if chain.org_id == PLATFORM else chain.org_id
    sequence, previous, count = chain.pruned_sequence, chain.pruned_hash, 0
    while True:
        query = (
            select(*[getattr(AuditEntry, name) for name in (*_COVERED, "hash")])
            .where(AuditEntry.org_id.is_not_distinct_from(org_id), AuditEntry.sequence > sequence)
            .order_by(AuditEntry.sequence)
            .limit(BATCH)
        )
        rows = (await session.execute(query)).all()
        for row in rows:
            entry = dict(row._mapping)
            if entry["sequence"] != sequence + 1:
                return ChainReport(org_id, count, sequence + 1, "the entry is missing")
            if entry["previous_hash"] != previous or entry_hash(entry) != entry["hash"]:
                return ChainReport(org_id, count, entry["sequence"], "the entry was changed")
            sequence, previous, count = entry["sequence"], entry["hash"], count + 1
        if len(rows) < BATCH:
            break
    if (sequence, previous) != (chain.sequence, chain.hash):
        return ChainReport(org_id, count, sequence + 1, "the entry is missing")
    return ChainReport(org_id, count)
