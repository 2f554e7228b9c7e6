"""What is counted of an organization this month, for counters that have to begin somewhere."""

from datetime import date
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.usage.tables import DailyMessages, DailyUsage, MonthlyKeyCost
from shared.limits import Counted, micros


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
