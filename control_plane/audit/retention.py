"""Entries are kept for as long as the settings say. What is left still begins where it is said to begin."""

import asyncio
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from control_plane.audit.tables import PLATFORM, AuditChain, AuditEntry
from control_plane.database.engine import Database
from shared.clock import Clock
from shared.logging import get_logger

EVERY_SECONDS = 6 * 3600.0

log = get_logger(__name__)


async def keep_retention(database: Database, clock: Clock, days: int) -> None:
    """Prune now and every six hours, until cancelled."""
    while True:
        try:
            await prune(database, clock, days)
        except (SQLAlchemyError, OSError) as error:
            log.warning("audit_not_pruned", reason=type(error).__name__)
        await asyncio.sleep(EVERY_SECONDS)


async def prune(database: Database, clock: Clock, days: int) -> int:
    """Delete what is older; the number of entries deleted. Each chain by itself, so that nobody waits for long."""
    limit = clock.now() - timedelta(days=days)
    async with database() as session:
        chains = (await session.execute(select(AuditChain.org_id))).scalars().all()
    pruned = 0
    for chain_id in chains:
        async with database() as session:
            chain = (
                await session.execute(select(AuditChain).where(AuditChain.org_id == chain_id).with_for_update())
            ).scalar_one()
            of_chain = AuditEntry.org_id.is_not_distinct_from(None if chain_id == PLATFORM else chain_id)
            query = select(func.max(AuditEntry.sequence)).where(of_chain, AuditEntry.at < limit)
            last: int | None = (await session.execute(query)).scalar_one()
            if last is None:
                continue
            at_last = select(AuditEntry.hash).where(of_chain, AuditEntry.sequence == last)
            chain.pruned_sequence, chain.pruned_hash = last, (await session.execute(at_last)).scalar_one()
            gone = delete(AuditEntry).where(of_chain, AuditEntry.sequence <= last).returning(AuditEntry.id)
            pruned += len((await session.execute(gone)).all())
            await session.commit()
    return pruned
