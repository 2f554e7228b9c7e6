"""Whether workers have caught up with an instance, as they say themselves in the registry."""

from collections.abc import Sequence
from uuid import UUID

from control_plane.orchestrators.reading import OrchestratorRecord
from control_plane.orchestrators.schemas import StatusView, WorkerStateView
from shared.workers import InstanceState, WorkerRegistry


class Readiness:
    def __init__(self, registry: WorkerRegistry) -> None:
        self._registry = registry

    async def of(self, records: Sequence[OrchestratorRecord]) -> set[UUID]:
        """The ids of those that are active and served by a live worker at their current revision."""
        active = [r for r in records if _may_be_ready(r)]
        if not active:
            return set()
        by_worker = await self._registry.states([r.id for r in active])
        return {
            r.id
            for r in active
            if any((state := states.get(r.id)) and _is_ready(state, r) for states in by_worker.values())
        }

    async def status(self, record: OrchestratorRecord) -> StatusView:
        """What every live worker says; a worker that never met the instance is left out."""
        workers = {w.worker_id: w for w in await self._registry.live()}
        states = await self._registry.states_of(record.id)
        views = [
            WorkerStateView(
                worker_id=worker_id,
                state=state.state,
                revision=state.revision,
                config_hash=state.config_hash,
                is_current=_is_current(state, record),
                draining=workers[worker_id].draining if worker_id in workers else False,
                updated_at=state.updated_at,
                reason=state.reason,
            )
            for worker_id, state in sorted(states.items())
        ]
        return StatusView(
            instance_id=record.id,
            status=record.status,
            tier=record.tier,
            is_unloaded=record.is_unloaded,
            revision=record.revision,
            config_hash=record.config_hash,
            is_ready=_may_be_ready(record) and any(_is_ready(s, record) for s in states.values()),
            workers=views,
        )


def _may_be_ready(record: OrchestratorRecord) -> bool:
    return record.status == "active" and not record.is_unloaded


def _is_ready(state: InstanceState, record: OrchestratorRecord) -> bool:
    return state.state == "ready" and _is_current(state, record)


def _is_current(state: InstanceState, record: OrchestratorRecord) -> bool:
    return state.config_hash == record.config_hash and state.revision >= record.revision
