"""The LangGraph engine: builds supervisor orchestrators and runs their turns."""

import asyncio
import os

from langsmith import tracing_context

from runtime_worker.engines.base import EngineParts, EventSink, RunRequest, RunResult
from runtime_worker.engines.langgraph.messages import from_langchain
from runtime_worker.engines.langgraph.supervisor_graph import compiled_graph
from runtime_worker.engines.langgraph.supervisor_instance import SupervisorInstance
from runtime_worker.engines.langgraph.supervisor_nodes import RunContext
from runtime_worker.engines.modes.supervisor import Progress
from runtime_worker.engines.telling import Telling
from runtime_worker.plugins.base import PluginTool
from shared.errors import RunTimedOut
from shared.snapshots import OrchestratorSnapshot


class LangGraphSupervisor:
    """One instance: what was built, and the compiled graph that instances of its shape share."""

    def __init__(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> None:
        """Raises OrchestratorBuildFailed."""
        self._parts = parts
        self._tools = _tools_of(parts)
        self._instance = SupervisorInstance.of(snapshot, parts)
        self._graph = compiled_graph(self._instance.policy.shape)

    @property
    def snapshot(self) -> OrchestratorSnapshot:
        return self._instance.snapshot

    async def run(self, request: RunRequest, sink: EventSink) -> RunResult:
        """One turn; see the port. Raises RunTimedOut at the deadline, and the ModelError that broke an answer which was
        already being read."""
        run = RunContext(self._current(), request, Telling(sink))
        try:
            async with asyncio.timeout_at(request.deadline):
                # Whatever LANGSMITH_TRACING says: a tenant's prompts go nowhere but to the tenant's model.
                with tracing_context(enabled=False):
                    state = await self._graph.ainvoke(
                        {"transcript": [], "progress": Progress()},
                        {"recursion_limit": self._instance.policy.max_steps + 1},
                        context=run,
                    )
        except TimeoutError:
            raise RunTimedOut from None
        failure = state.get("failure")
        return RunResult(
            answer=run.telling.answer,
            usage=run.usage,
            agent_hops=state["progress"].hops,
            current_agent=state.get("answered_by"),
            tool_messages=tuple(from_langchain(state["transcript"])),
            error_code=failure.code if failure else None,
        )

    def mermaid(self) -> str:
        return self._graph.get_graph().draw_mermaid()

    def _current(self) -> SupervisorInstance:
        """What was built, made anew if a plugin has other tools since: an MCP server may change its own at any time."""
        if (tools := _tools_of(self._parts)) != self._tools:
            self._instance, self._tools = SupervisorInstance.of(self.snapshot, self._parts), tools
        return self._instance


class LangGraphSupervisorEngine:
    """Building is cheap when models, plugins and the graph's shape are there already."""

    def __init__(self) -> None:
        # The first version of LangChain's tracing makes every call fail while one of these is set.
        for variable in ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER"):
            os.environ.pop(variable, None)

    async def build(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> LangGraphSupervisor:
        return LangGraphSupervisor(snapshot, parts)

    @property
    def template_count(self) -> int:
        """How many compiled graphs are shared (`shared_templates` of the pool stats)."""
        return compiled_graph.cache_info().currsize


def _tools_of(parts: EngineParts) -> tuple[tuple[PluginTool, ...], ...]:
    return tuple(bundle.tools for bundle in parts.bundles)
