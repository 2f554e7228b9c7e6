"""Entries that hold each other: each one's hash covers the one before."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Text, bindparam, cast, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.tables import PLATFORM, AuditChain, AuditEntry
from control_plane.database.direct import run
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
)
# Where in the text that a hash is of, whose names are sorted, PostgreSQL puts in what it alone knows.
_NAMES = sorted(_COVERED)
_PREVIOUS, _SEQUENCE = _NAMES.index("previous_hash"), _NAMES.index("sequence")
_BEFORE, _BETWEEN = _NAMES[:_PREVIOUS], _NAMES[_PREVIOUS + 1 : _SEQUENCE]
_TEXT = (
    bindparam("before", type_=Text)
    .concat(AuditChain.hash)
    .concat(bindparam("between", type_=Text))
    .concat(cast(AuditChain.sequence, Text))
    .concat(literal_column("'}'"))
)
_HASH = func.encode(func.sha256(func.convert_to(_TEXT, literal_column("'UTF8'"))), literal_column("'hex'"))
_GIVEN: dict[str, Any] = {
    column.key: bindparam(column.key, type_=column.type) for column in AuditEntry.__table__.columns
} | {"org_id": bindparam("org_id", type_=AuditEntry.id.type)}
_ENTRY = _GIVEN | {"sequence": AuditChain.sequence, "previous_hash": AuditChain.hash, "hash": _HASH}
_STORED = (
    insert(AuditEntry)
    .from_select([*_ENTRY], select(*_ENTRY.values()).where(AuditChain.org_id == bindparam("chain")))
    .returning(AuditEntry.hash)
    .cte("stored")
)
_APPENDED = Statement(
    update(AuditChain)
    .where(AuditChain.org_id == bindparam("chain"))
    .values(hash=select(_STORED.c.hash).scalar_subquery())
)


async def append(session: AsyncSession, org_id: UUID | None, fields: dict[str, Any]) -> None:
    """Add an entry to an organization's chain, or to the platform's. Call it last: the end of the chain stays locked
    until the transaction ends, so that entries follow each other in the order of the commits.
    """
    await run(session, *entry(org_id, fields))


def entry(org_id: UUID | None, fields: dict[str, Any]) -> tuple[Question, Question]:
    """The same for who has more to ask together with it. Its place in the chain is found by PostgreSQL, so that nobody
    waits for the end of a chain that a process has yet to hear of.
    """
    chain, known = org_id or PLATFORM, {"id": new_id(), "org_id": org_id, **fields}
    before, between = (_json(_covered(known, names))[1:-1] for names in (_BEFORE, _BETWEEN))
    appended = _APPENDED(
        **{**known, "changes": msgspec.json.encode(known["changes"]).decode()},
        chain=chain,
        before=f'{{{before},"previous_hash":"',
        between=f'",{between},"sequence":',
    )
    return _TAKEN(chain=chain), appended


def entry_hash(entry: dict[str, Any]) -> str:
    """SHA-256 of everything in an entry but the hash itself, written in one way only."""
    return hashlib.sha256(_json(_covered(entry, _NAMES)).encode()).hexdigest()


def _covered(entry: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: entry["at"].timestamp() if name == "at" else entry[name] for name in names}


_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode


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
