"""The engine of the OpenAI Agents SDK: builds orchestrators of one mode and runs their turns."""

import asyncio
from typing import Any

from runtime_worker.engines.base import EngineParts, EventSink, RunRequest, RunResult
from runtime_worker.engines.instances.current import CurrentInstance
from runtime_worker.engines.openai_agents.coordinator import COORDINATOR_WIRING
from runtime_worker.engines.openai_agents.grounded import GROUNDED_WIRING
from runtime_worker.engines.openai_agents.handoff import HANDOFF_WIRING
from runtime_worker.engines.openai_agents.run import AgentsRun
from runtime_worker.engines.openai_agents.supervisor import SUPERVISOR_WIRING
from runtime_worker.engines.openai_agents.tracing import turn_off_tracing
from runtime_worker.engines.openai_agents.wiring import Wired, Wiring
from runtime_worker.engines.telling import Telling
from shared.errors import RunTimedOut
from shared.frameworks import Mode
from shared.snapshots import OrchestratorSnapshot

WIRINGS: dict[Mode, Wiring] = {
    Mode.SUPERVISOR: SUPERVISOR_WIRING,
    Mode.COORDINATOR: COORDINATOR_WIRING,
    Mode.HANDOFF: HANDOFF_WIRING,
    Mode.GROUNDED: GROUNDED_WIRING,
}


class AgentsEngine:
    """Building is a handful of plain objects when models and plugins are there already."""

    def __init__(self, mode: Mode) -> None:
        turn_off_tracing()
        self._wiring = WIRINGS[mode]

    async def build(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "AgentsOrchestrator":
        return AgentsOrchestrator(self._wiring, snapshot, parts)

    @property
    def template_count(self) -> int:
        """An agent has the tools and settings of its instance, so instances share none."""
        return 0


class AgentsOrchestrator:
    """One instance as agents. They hold nothing of a run, so any number of runs use them at the same time."""

    def __init__(self, wiring: Wiring, snapshot: OrchestratorSnapshot, parts: EngineParts) -> None:
        """Raises OrchestratorBuildFailed."""
        self._current: CurrentInstance[Wired] = CurrentInstance(wiring.wire, snapshot, parts)

    @property
    def snapshot(self) -> OrchestratorSnapshot:
        return self._current.snapshot

    async def run(self, request: RunRequest, sink: EventSink) -> RunResult:
        """One turn; see the port. Raises RunTimedOut at the deadline, and the ModelError that broke an answer which was
        already being read."""
        wired = self._current.get()
        run: AgentsRun[Any] = AgentsRun(wired.instance, request, Telling(sink), wired=wired)
        try:
            async with asyncio.timeout_at(request.deadline):
                await wired.drive(run)
        except TimeoutError:
            raise RunTimedOut from None
        return wired.mode.result(run.state, run)

    def mermaid(self) -> str:
        return self._current.get().mermaid()
