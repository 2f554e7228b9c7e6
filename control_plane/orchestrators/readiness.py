"""Whether workers have caught up with an instance, as they say themselves in the registry."""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

from control_plane.orchestrators.reading import OrchestratorRecord
from control_plane.orchestrators.schemas import StatusView, WorkerStateView
from shared.workers import InstanceState, WorkerRecord, WorkerRegistry

WAIT_SECONDS = 10.0
FIRST_LOOK_SECONDS = 0.02
LAST_LOOK_SECONDS = 0.25


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
                observed_revision=state.revision,
                served_revision=state.served_revision,
                served_config_hash=state.served_config_hash,
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

    async def wait_until_applied(self, instance_id: UUID, revision: int, *, needs_build: bool) -> bool:
        """Whether every live worker that is not leaving has done what this revision asks of it, within WAIT_SECONDS.

        False at once when one could not build it: it will go on trying. With `needs_build` at least one has it built.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + WAIT_SECONDS, FIRST_LOOK_SECONDS
        while True:
            workers = [worker for worker in await self._registry.live() if not worker.draining]
            states = await self._registry.states_of(instance_id)
            news = {i: state for i, state in states.items() if state.revision >= revision}
            if any(state.state == "failed" for state in news.values()):
                return False
            is_built = any(state.state == "ready" for state in news.values())
            if workers and (is_built or not needs_build) and all(_has_applied(w, states, revision) for w in workers):
                return True
            if loop.time() + pause > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LAST_LOOK_SECONDS)


def _has_applied(worker: WorkerRecord, states: Mapping[str, InstanceState], revision: int) -> bool:
    state = states.get(worker.worker_id)
    if state is None:
        # It holds nothing of it, and builds it when somebody asks.
        return worker.observed_revision >= revision
    return state.revision >= revision and state.state != "building"


def _may_be_ready(record: OrchestratorRecord) -> bool:
    return record.status == "active" and not record.is_unloaded


def _is_ready(state: InstanceState, record: OrchestratorRecord) -> bool:
    return state.state == "ready" and _is_current(state, record)


def _is_current(state: InstanceState, record: OrchestratorRecord) -> bool:
    return state.config_hash == record.config_hash and state.revision >= record.revision
