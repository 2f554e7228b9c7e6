"""The live fleet, read from the registry."""

from control_plane.workers.schemas import PoolStatsView, WorkerView
from shared.workers import WorkerRegistry


class FleetService:
    def __init__(self, registry: WorkerRegistry) -> None:
        self._registry = registry

    async def workers(self) -> list[WorkerView]:
        """Every live worker with everything it says about its instances."""
        return [WorkerView.of(record, states) for record, states in await self._registry.fleet()]

    async def pool_stats(self) -> PoolStatsView:
        fleet = await self._registry.fleet()
        records = [record for record, _ in fleet]
        return PoolStatsView(
            cold_count=sum(r.cold for r in records),
            warm_count=sum(r.warm for r in records),
            hot_count=sum(r.hot for r in records),
            shared_models=sum(r.shared_models for r in records),
            shared_bundles=sum(r.shared_bundles for r in records),
            shared_templates=sum(r.shared_templates for r in records),
            estimated_memory_mb=round(sum(r.rss_mb + r.hosts_mb for r in records), 1),
            pool_mb=round(sum(r.pool_mb for r in records), 1),
            build_queue=sum(r.build_queue for r in records),
            workers=[WorkerView.of(record, states) for record, states in fleet],
        )
