"""The Google ADK engine: builds orchestrators of one mode and runs their turns."""

import asyncio
from typing import Any

from runtime_worker.engines.base import EngineParts, EventSink, RunRequest, RunResult
from runtime_worker.engines.google_adk.agent_tree import AgentTree
from runtime_worker.engines.google_adk.run import AdkRun, current_run
from runtime_worker.engines.google_adk.running import AgentRunner, quiet_process
from runtime_worker.engines.instances.current import CurrentInstance
from runtime_worker.engines.nodes.visit import ModeWork
from runtime_worker.engines.telling import Telling
from shared.errors import RunTimedOut
from shared.snapshots import OrchestratorSnapshot


class AdkEngine:
    def __init__(self, mode: ModeWork[Any, Any, Any]) -> None:
        quiet_process()
        self.mode = mode

    async def build(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "AdkOrchestrator":
        return AdkOrchestrator(self.mode, snapshot, parts)

    @property
    def template_count(self) -> int:
        """An agent has one parent, so instances share none."""
        return 0


class Wired:
    """An instance with its agents, and what runs them."""

    def __init__(self, mode: ModeWork[Any, Any, Any], snapshot: OrchestratorSnapshot, parts: EngineParts) -> None:
        """Raises OrchestratorBuildFailed."""
        self.instance = mode.instance_of(snapshot, parts)
        self.agents = AgentTree(mode, self.instance)
        self.runner = AgentRunner(self.agents.root)


class AdkOrchestrator:
    """One instance on ADK."""

    def __init__(self, mode: ModeWork[Any, Any, Any], snapshot: OrchestratorSnapshot, parts: EngineParts) -> None:
        """Raises OrchestratorBuildFailed."""
        self._mode = mode
        self._current = CurrentInstance(lambda *built_from: Wired(mode, *built_from), snapshot, parts)

    @property
    def snapshot(self) -> OrchestratorSnapshot:
        return self._current.snapshot

    async def run(self, request: RunRequest, sink: EventSink) -> RunResult:
        """One turn; see the port. Raises RunTimedOut at the deadline, and the ModelError that broke an answer which was
        already being read."""
        wired = self._current.get()
        run = AdkRun(wired.instance, request, Telling(sink), agent_of=wired.agents.agent_of)
        token = current_run.set(run)
        try:
            async with asyncio.timeout_at(request.deadline):
                await wired.runner.run(request)
        except TimeoutError:
            raise RunTimedOut from None
        finally:
            current_run.reset(token)
        return self._mode.result(run.state, run)

    def mermaid(self) -> str:
        return self._current.get().agents.mermaid()
