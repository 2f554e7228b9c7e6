"""Counting what runs used, each call exactly once, whatever comes twice, late or in another order.

An entry is taken out of the stream only when the transaction that counted it is committed; one that comes again finds
its rows there and adds nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Table, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api_keys.tables import APIKey
from control_plane.organizations.tables import Organization
from control_plane.usage.tables import DailyMessages, DailyUsage, MonthlyKeyCost, UsageCall, UsageRun
from shared.clock import Clock
from shared.logging import get_logger
from shared.usage import RunFinished

COUNTING_LOCK = 0x0CADE4D3
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")

log = get_logger(__name__)

Row = Mapping[Any, Any]
Key = tuple[Any, ...]


async def is_our_turn(session: AsyncSession) -> bool:
    """Whether nobody else is counting until the transaction ends: two who count the same would only wait for each
    other."""
    return bool((await session.execute(_TRY_LOCK, {"key": COUNTING_LOCK})).scalar_one())


async def count(session: AsyncSession, runs: Iterable[RunFinished], clock: Clock, *, kept_days: int) -> None:
    """Add what was not counted before to the rows and sums of this transaction.

    What is older than `kept_days` (0: nothing is) may have been counted and forgotten, so it is left out; and so are
    organizations that are gone.
    """
    oldest = clock.now() - timedelta(days=kept_days) if kept_days else None
    recent = [run for run in runs if oldest is None or run.ended_at > oldest]
    ids = {run.org_id for run in recent}
    known = set(await session.scalars(select(Organization.id).where(Organization.id.in_(ids))))
    counted = [run for run in recent if run.org_id in known]
    if left_out := len(ids - known):
        log.warning("usage_left_out", organizations=left_out)
    ended = [_run_row(run) for run in counted if run.status != "handed_over"]
    await _add(session, DailyMessages, _messages(await _new(session, UsageRun, ended)))
    calls = [row for run in counted for row in _call_rows(run)]
    new_calls = await _new(session, UsageCall, calls)
    await _add(session, DailyUsage, _sums(new_calls))
    await _add(session, MonthlyKeyCost, await _key_costs(session, new_calls))


async def _new(session: AsyncSession, kind: type[UsageRun] | type[UsageCall], rows: Sequence[Row]) -> Sequence[Row]:
    """Those of the rows that were not there, as they are now."""
    if not rows:
        return []
    table = _table(kind)
    statement = insert(table).on_conflict_do_nothing().returning(*table.columns)
    return (await session.execute(statement, list(rows))).mappings().all()


async def _add(
    session: AsyncSession,
    kind: type[DailyMessages] | type[DailyUsage] | type[MonthlyKeyCost],
    sums: Mapping[Key, dict[str, Any]],
) -> None:
    """Add to the sums that are there. Always in the same order, so that nobody who does the same waits in a circle."""
    if not sums:
        return
    table = _table(kind)
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    added = {
        column.name: column + statement.excluded[column.name] for column in table.columns if column.name not in keys
    }
    rows = [{**dict(zip(keys, key, strict=True)), **values} for key, values in sorted(sums.items())]
    await session.execute(statement.on_conflict_do_update(index_elements=keys, set_=added), rows)


def _table(kind: type[Any]) -> Table:
    # A plain table: nobody wants objects of thousands of rows, nor their changes in the audit log.
    table: Table = kind.__table__
    return table


def _run_row(run: RunFinished) -> dict[str, Any]:
    values = msgspec.structs.asdict(run)
    del values["calls"], values["epoch"]
    return values


def _call_rows(run: RunFinished) -> list[dict[str, Any]]:
    of_run = _run_row(run)
    del of_run["status"]
    of_run["epoch"] = run.epoch
    return [{**of_run, "call": place, **msgspec.structs.asdict(call)} for place, call in enumerate(run.calls)]


def _messages(runs: Sequence[Row]) -> dict[Key, dict[str, Any]]:
    sums: dict[Key, dict[str, Any]] = defaultdict(lambda: {"messages": 0, "failed": 0, "cancelled": 0})
    for run in runs:
        values = sums[run["org_id"], _day(run), run["instance_id"]]
        values["messages"] += 1
        if run["status"] in values:
            values[run["status"]] += 1
    return sums


def _sums(calls: Sequence[Row]) -> dict[Key, dict[str, Any]]:
    sums: dict[Key, dict[str, Any]] = {}
    runs: dict[Key, set[UUID]] = defaultdict(set)
    for call in calls:
        key = call["org_id"], _day(call), call["instance_id"], call["provider"], call["model_name"]
        values = sums.setdefault(key, _nothing())
        values["calls"] += 1
        values["estimated_calls"] += call["is_estimated"]
        values["unpriced_calls"] += call["cost"] is None
        values["cost"] += call["cost"] or 0
        for name in ("input_tokens", "output_tokens", "cached_tokens"):
            values[name] += call[name]
        runs[key].add(call["run_id"])
    for key, values in sums.items():
        values["messages"] = len(runs[key])
    return sums


async def _key_costs(session: AsyncSession, calls: Sequence[Row]) -> dict[Key, dict[str, Any]]:
    """A key that was revoked a moment ago counts for itself."""
    ids = {call["api_key_id"] for call in calls} - {None}
    if not ids:
        return {}
    found = await session.execute(select(APIKey.id, APIKey.budget_id).where(APIKey.id.in_(ids)))
    budgets = {key_id: budget_id or key_id for key_id, budget_id in found}
    sums: dict[Key, dict[str, Any]] = defaultdict(lambda: {"cost": Decimal(0)})
    for call in calls:
        if (key_id := call["api_key_id"]) is not None:
            sums[call["org_id"], _day(call).replace(day=1), budgets.get(key_id, key_id)]["cost"] += call["cost"] or 0
    return sums


def _nothing() -> dict[str, Any]:
    names = ("calls", "estimated_calls", "unpriced_calls", "input_tokens", "output_tokens", "cached_tokens")
    return {**dict.fromkeys(names, 0), "cost": Decimal(0)}


def _day(row: Row) -> date:
    day: date = row["ended_at"].astimezone(UTC).date()
    return day
