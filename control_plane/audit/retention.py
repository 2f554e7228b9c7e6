"""Entries are kept for as long as the settings say. What is left still begins where it is said to begin."""

from datetime import timedelta

from sqlalchemy import delete, func, select

from control_plane.audit.tables import PLATFORM, AuditChain, AuditEntry
from control_plane.database.engine import Database
from shared.clock import Clock


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
