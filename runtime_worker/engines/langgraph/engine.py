"""The LangGraph engine: builds orchestrators of one mode and runs their turns."""

import asyncio
import os
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import langsmith

from runtime_worker.engines.base import EngineParts, EventSink, RunRequest, RunResult
from runtime_worker.engines.instances.current import CurrentInstance
from runtime_worker.engines.langgraph.graph import Graph, Template
from runtime_worker.engines.nodes.run import Instance, RunContext
from runtime_worker.engines.nodes.visit import ModeWork
from runtime_worker.engines.telling import Telling
from shared.errors import RunTimedOut
from shared.snapshots import OrchestratorSnapshot


class LangGraphEngine:
    """Building is cheap when models, plugins and the graph's shape are there already."""

    def __init__(self, mode: ModeWork[Any, Any, Any]) -> None:
        # The first version of LangChain's tracing makes every call fail while one of these is set.
        for variable in ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER"):
            os.environ.pop(variable, None)
        # Whatever LANGSMITH_TRACING says: a tenant's prompts go nowhere but to the tenant's model.
        langsmith.configure(enabled=False)
        self.mode = mode
        self._graphs: WeakValueDictionary[Template, Graph] = WeakValueDictionary()

    async def build(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "LangGraphOrchestrator":
        return LangGraphOrchestrator(self, snapshot, parts)

    def wired(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "Wired":
        """What is built of an instance, with the compiled graph of its template: shared as long as somebody has it.

        Raises OrchestratorBuildFailed.
        """
        instance = self.mode.instance_of(snapshot, parts)
        template = Template.of(instance)
        graph = self._graphs.get(template)
        if graph is None:
            graph = self._graphs[template] = Graph(self.mode, template)
        return Wired(instance, graph)

    @property
    def template_count(self) -> int:
        """How many compiled graphs are shared (`shared_templates` of the pool stats)."""
        return len(self._graphs)


class Wired(NamedTuple):
    instance: Instance
    graph: Graph


class LangGraphOrchestrator:
    """One instance: what was built, and the compiled graph that instances of its template share."""

    def __init__(self, engine: LangGraphEngine, snapshot: OrchestratorSnapshot, parts: EngineParts) -> None:
        """Raises OrchestratorBuildFailed."""
        self._mode = engine.mode
        self._current = CurrentInstance(engine.wired, snapshot, parts)

    @property
    def snapshot(self) -> OrchestratorSnapshot:
        return self._current.snapshot

    async def run(self, request: RunRequest, sink: EventSink) -> RunResult:
        """One turn; see the port. Raises RunTimedOut at the deadline, and the ModelError that broke an answer which was
        already being read."""
        instance, graph = self._current.get()
        run = RunContext(instance, request, Telling(sink))
        try:
            async with asyncio.timeout_at(request.deadline):
                state = await graph.run(run)
        except TimeoutError:
            raise RunTimedOut from None
        return self._mode.result(state, run)

    def mermaid(self) -> str:
        return self._current.get().graph.mermaid()
