"""Rotation of keys while everything runs: data keys are wrapped anew, and secrets are sealed anew where that is asked.

Each row is changed in a short transaction of its own, so nobody waits for long, and a rotation that breaks off is
simply run again. Revisions and hashes stay: what instances are built from has not changed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Select, Text, func, or_, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.data_keys.sealed import SEALED_COLUMNS, SealedColumn
from control_plane.data_keys.service import DataKeys
from control_plane.data_keys.tables import DataKey
from control_plane.database.engine import Database
from control_plane.database.locks import lock_definitions
from control_plane.organizations.tables import Organization
from shared.errors import NotFound, SecretUnreadable
from shared.secrets import key_id_of
from shared.security.data_keys import DataKeyring, data_key_of
from shared.security.key_wrapping import KeyWrapping, wrapped_by
from shared.snapshots import WrappedDataKey

PAGE = 200


class Progress(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """`step` is one of wrap, seal, retire; of `total` rows `done` were looked at."""

    step: str
    done: int
    total: int


class RotationReport(msgspec.Struct, frozen=True, tag_field="event", tag="rotated"):
    """`wrapped` and `retired` data keys, `sealed` rows; what was `unreadable` is left as it was.

    `needed` tells by key-encryption key how many data keys and secrets need it. One that is `not_needed` may be taken
    away once every process has the newest.
    """

    newest: str
    wrapped: int
    sealed: int
    retired: int
    unreadable: int
    needed: dict[str, int]
    not_needed: tuple[str, ...]


class Rotation:
    def __init__(
        self, database: Database, wrapping: KeyWrapping, *, reseal: bool, tell: Callable[[Progress], None]
    ) -> None:
        self._database = database
        self._wrapping = wrapping
        self._reseal = reseal
        self._tell = tell
        self._wrapped = self._sealed = self._retired = self._unreadable = 0

    async def run(self) -> RotationReport:
        """Raises KeyServiceUnavailable and what the database raises; run it again then."""
        newest = await self._wrapping.newest()
        await self._wrap_all(newest)
        if self._reseal:
            await self._begin_anew()
        await self._seal_all()
        await self._retire_all()
        needed = await self._needed()
        return RotationReport(
            newest=newest,
            wrapped=self._wrapped,
            sealed=self._sealed,
            retired=self._retired,
            unreadable=self._unreadable,
            needed=needed,
            not_needed=tuple(key for key in self._wrapping.held if key not in needed and key != newest),
        )

    async def _wrap_all(self, newest: str) -> None:
        async with self._database() as session:
            ids = (await session.scalars(select(DataKey.id).order_by(DataKey.id))).all()
        for done, key_id in enumerate(ids, start=1):
            async with self._database() as session:
                # Not the full lock: whoever seals with the key meanwhile is not in the way.
                query = select(DataKey).where(DataKey.id == key_id).with_for_update(key_share=True)
                row = (await session.execute(query)).scalar_one_or_none()
                if row is not None and wrapped_by(row.wrapped_key) != newest:
                    await self._wrap(row)
                await session.commit()
            self._tell(Progress("wrap", done, len(ids)))

    async def _wrap(self, row: DataKey) -> None:
        try:
            key = await self._wrapping.unwrap(WrappedDataKey(row.id, row.wrapped_key))
        except SecretUnreadable:
            self._unreadable += 1
            return
        row.wrapped_key = await self._wrapping.wrap(key, row.id)
        self._wrapped += 1

    async def _begin_anew(self) -> None:
        """A new data key for every owner. One with several has it already, from a rotation that broke off."""
        async with self._database() as session:
            query = select(DataKey.org_id, func.max(DataKey.generation), func.count()).group_by(DataKey.org_id)
            owners = (await session.execute(query)).all()
        for owner, generation, count in owners:
            if count == 1:
                async with self._database() as session:
                    with suppress(NotFound):
                        await self._keys(session).add(owner, generation + 1)
                    await session.commit()

    async def _seal_all(self) -> None:
        totals = [await self._count(column) for column in SEALED_COLUMNS]
        done = 0
        for column in SEALED_COLUMNS:
            last: UUID | None = None
            while page := await self._page(column, last):
                for row_id, owner, is_deleted in page:
                    await self._seal_row(column, row_id, owner, is_deleted=is_deleted)
                    done += 1
                    self._tell(Progress("seal", done, max(done, sum(totals))))
                last = page[-1][0]

    async def _seal_row(self, column: SealedColumn, row_id: UUID, owner: UUID | None, *, is_deleted: bool) -> None:
        table, attribute = cast("Any", column.table), getattr(column.table, column.column)
        async with self._database() as session:
            if column.is_defined:
                await lock_definitions(session, owner)
            keyring = None
            if not is_deleted:
                try:
                    # Before the value is read: a key that it needs must not be retired in between.
                    keyring = await self._keys(session).sealing(owner)
                except SecretUnreadable:
                    self._unreadable += 1
                    return
                except NotFound:
                    # Deleted a moment ago.
                    keyring = None
            query = select(attribute).where(table.id == row_id).with_for_update()
            value = (await session.execute(query)).scalar_one_or_none()
            if value is None:
                return
            changed = column.walk(row_id, value, lambda sealed, place: self._anew(keyring, sealed, place))
            if changed != value:
                # What the row says has not changed.
                values = {attribute: changed, table.updated_at: table.updated_at}
                await session.execute(update(table).where(table.id == row_id).values(values))
                self._sealed += 1
            await session.commit()

    def _anew(self, keyring: DataKeyring | None, sealed: str, place: dict[str, Any]) -> str:
        try:
            key_id = data_key_of(sealed)
            if keyring is None:
                # Of a deleted organization. What its data key sealed is shredded; nothing else may outlive it.
                return sealed if key_id else ""
            if key_id == keyring.newest:
                return sealed
            return keyring.seal(keyring.open(sealed, **place), **place)
        except SecretUnreadable:
            self._unreadable += 1
            return sealed

    async def _retire_all(self) -> None:
        """Delete the data keys that a newer one has replaced and nothing needs any more."""
        async with self._database() as session:
            query = select(DataKey.org_id).group_by(DataKey.org_id).having(func.count() > 1)
            owners = (await session.scalars(query)).all()
        for done, owner in enumerate(owners, start=1):
            async with self._database() as session:
                if owner is not None:
                    await lock_definitions(session, owner)
                rows = (
                    await session.scalars(
                        select(DataKey)
                        .where(DataKey.org_id.is_not_distinct_from(owner))
                        .order_by(DataKey.generation)
                        .with_for_update()
                    )
                ).all()
                for row in rows[:-1]:
                    if not await _is_used(session, row):
                        await session.delete(row)
                        self._retired += 1
                await session.commit()
            self._tell(Progress("retire", done, len(owners)))

    async def _needed(self) -> dict[str, int]:
        """By key-encryption key, the number of data keys and of secrets that need it."""
        needed: Counter[str] = Counter()
        async with self._database() as session:
            needed.update(wrapped_by(wrapped) for wrapped in await session.scalars(select(DataKey.wrapped_key)))
            for column in SEALED_COLUMNS:
                attribute = getattr(column.table, column.column)
                query = select(column.table.id, attribute).where(_text(column).like("%v1.%"))
                for row_id, value in await session.execute(query):
                    column.walk(row_id, value, lambda sealed, _: _counted(needed, sealed))
        return dict(needed)

    async def _count(self, column: SealedColumn) -> int:
        async with self._database() as session:
            query = select(func.count()).select_from(column.table).where(_has_work(column))
            return int((await session.execute(query)).scalar_one())

    async def _page(self, column: SealedColumn, after: UUID | None) -> Sequence[tuple[UUID, UUID | None, bool]]:
        """`(row, owner, whether the owner is deleted)` of what may hold something sealed."""
        table = cast("Any", column.table)
        query: Select[Any]
        if column.has_owner:
            query = select(table.id, table.org_id, Organization.is_deleted).join(
                Organization, Organization.id == table.org_id
            )
        else:
            query = select(table.id, sql_cast(None, table.id.type), sql_cast(False, Organization.is_deleted.type))
        query = query.where(_has_work(column)).order_by(table.id).limit(PAGE)
        if after is not None:
            query = query.where(table.id > after)
        async with self._database() as session:
            return [(row_id, owner, is_deleted) for row_id, owner, is_deleted in await session.execute(query)]

    def _keys(self, session: AsyncSession) -> DataKeys:
        return DataKeys(session=session, wrapping=self._wrapping)


def _text(column: SealedColumn) -> ColumnElement[str]:
    return sql_cast(getattr(column.table, column.column), Text)


def _has_work(column: SealedColumn) -> ColumnElement[bool]:
    return or_(_text(column).like("%v1.%"), _text(column).like("%v2.%"))


async def _is_used(session: AsyncSession, key: DataKey) -> bool:
    for column in SEALED_COLUMNS:
        query = select(column.table.id).where(_text(column).contains(f"v2.{key.id.hex}.")).limit(1)
        if column.has_owner:
            query = query.where(cast("Any", column.table).org_id == key.org_id)
        if (await session.execute(query)).first() is not None:
            return True
    return False


def _counted(needed: Counter[str], sealed: str) -> str:
    if sealed.startswith("v1."):
        needed[key_id_of(sealed)] += 1
    return sealed
