"""What is counted already, for those who have to go on from there."""

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.usage.tables import DailyMessages, DailyUsage, MonthlyKeyCost, UsageRun
from shared.clock import Clock
from shared.ids import first_id_at
from shared.limits import Counted, micros
from shared.usage import Uncounted


async def load_counted(engine: AsyncEngine, org_id: UUID, on: date) -> Counted:
    """Of the month of `on`, up to and on that day. Nothing for an organization that nobody knows."""
    first = on.replace(day=1)
    tokens = DailyUsage.input_tokens + DailyUsage.output_tokens
    messages = select(
        func.coalesce(func.sum(DailyMessages.messages), 0),
        func.coalesce(func.sum(DailyMessages.messages).filter(DailyMessages.day == on), 0),
    ).where(DailyMessages.org_id == org_id, DailyMessages.day.between(first, on))
    used = select(
        func.coalesce(func.sum(tokens), 0),
        func.coalesce(func.sum(tokens).filter(DailyUsage.day == on), 0),
        func.coalesce(func.sum(DailyUsage.cost), 0),
    ).where(DailyUsage.org_id == org_id, DailyUsage.day.between(first, on))
    keys = select(MonthlyKeyCost.budget_id, MonthlyKeyCost.cost).where(
        MonthlyKeyCost.org_id == org_id, MonthlyKeyCost.month == first
    )
    async with engine.connect() as connection:
        this_month, today = (await connection.execute(messages)).one()
        tokens_this_month, tokens_today, cost = (await connection.execute(used)).one()
        by_key = {budget_id: micros(spent) or 0 for budget_id, spent in await connection.execute(keys)}
    return Counted(int(today), int(this_month), int(tokens_today), int(tokens_this_month), micros(cost) or 0, by_key)


async def find_uncounted(engine: AsyncEngine, run_ids: Sequence[UUID], clock: Clock, *, kept_days: int) -> Uncounted:
    """Those that are not counted. What is older than `kept_days` (0: nothing is) may be counted and forgotten."""
    oldest = clock.now() - timedelta(days=kept_days) if kept_days else None
    asked = [run_id for run_id in run_ids if oldest is None or run_id >= first_id_at(oldest)]
    if not asked:
        return Uncounted((), oldest)
    async with engine.connect() as connection:
        counted = set(await connection.scalars(select(UsageRun.run_id).where(UsageRun.run_id.in_(asked))))
    return Uncounted(tuple(run_id for run_id in asked if run_id not in counted), oldest)
