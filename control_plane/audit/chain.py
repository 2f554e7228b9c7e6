"""Entries that hold each other: each one's hash covers the one before."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.tables import PLATFORM, AuditChain, AuditEntry
from control_plane.database.direct import offer_company, run, run_if_new
from control_plane.database.statements import Question, Statement
from shared.ids import new_id

BATCH = 1000
_COVERED = tuple(column.key for column in AuditEntry.__mapper__.column_attrs if column.key != "hash")


class ChainReport(msgspec.Struct, frozen=True):
    """`broken_at` is the sequence number of the first entry that is not as it was written, or is not there."""

    org_id: UUID | None
    entries: int
    broken_at: int | None = None
    problem: str | None = None


_TAKEN = Statement(
    insert(AuditChain)
    .values(org_id=bindparam("chain"), sequence=1, hash="", pruned_sequence=0, pruned_hash="")
    .on_conflict_do_update(index_elements=[AuditChain.org_id], set_={"sequence": AuditChain.sequence + 1})
    .returning(AuditChain.sequence, AuditChain.hash)
)
_ENDED = update(AuditChain).where(AuditChain.org_id == bindparam("chain")).values(hash=bindparam("hash")).cte("ended")
_APPENDED = Statement(
    insert(AuditEntry)
    .values({column.key: bindparam(column.key) for column in AuditEntry.__mapper__.column_attrs})
    .add_cte(_ENDED)
)


async def append(session: AsyncSession, org_id: UUID | None, fields: dict[str, Any]) -> None:
    """Add an entry to an organization's chain, or to the platform's. Call it last: the end of the chain stays locked
    until the transaction ends, so that entries follow each other in the order of the commits.
    """
    await run(session, await next_entry(session, org_id, fields))


def expect_entry(session: AsyncSession, org_id: UUID | None) -> None:
    """This transaction will have one: the end of the chain may be taken together with a revision."""
    offer_company(session, _TAKEN(chain=org_id or PLATFORM))


async def next_entry(session: AsyncSession, org_id: UUID | None, fields: dict[str, Any]) -> Question:
    """The same for who has more to ask together with it. What is left out is missed by whoever verifies the chain."""
    chain = org_id or PLATFORM
    [(sequence, previous)] = await run_if_new(session, _TAKEN(chain=chain))
    entry = {"id": new_id(), "org_id": org_id, "sequence": sequence, "previous_hash": previous, **fields}
    entry["hash"] = entry_hash(entry)
    changes = msgspec.json.encode(entry["changes"]).decode()
    return _APPENDED(**{**entry, "changes": changes, "chain": chain})


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
