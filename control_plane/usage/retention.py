"""Single runs and calls are kept for as long as the settings say; the sums of days are kept with their organization."""

from datetime import datetime, timedelta

from sqlalchemy import Table, delete, select, tuple_

from control_plane.database.engine import Database
from control_plane.usage.tables import UsageCall, UsageRun
from shared.clock import Clock

BATCH = 5_000


async def prune(database: Database, clock: Clock, days: int) -> int:
    """Delete what is older, a part at a time, so that nobody waits for long; the number of calls and runs deleted."""
    limit, pruned = clock.now() - timedelta(days=days), 0
    while gone := await _prune_some(database, limit):
        pruned += gone
    return pruned


async def _prune_some(database: Database, limit: datetime) -> int:
    calls: Table = UsageCall.__table__  # type: ignore[assignment]  # plain tables: nobody wants the rows
    runs: Table = UsageRun.__table__  # type: ignore[assignment]
    key = calls.c.run_id, calls.c.epoch, calls.c.call
    old_calls = select(*key).where(calls.c.ended_at < limit).limit(BATCH)
    old_runs = select(runs.c.run_id).where(runs.c.ended_at < limit).limit(BATCH)
    async with database() as session:
        connection = await session.connection()
        deletions = (
            delete(calls).where(tuple_(*key).in_(old_calls)),
            delete(runs).where(runs.c.run_id.in_(old_runs)),
        )
        gone = [(await connection.execute(deletion)).rowcount for deletion in deletions]
        await session.commit()
    return sum(gone)
