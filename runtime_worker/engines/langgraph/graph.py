"""A mode as a LangGraph graph. Compiled once per template: everything else comes with a run's context."""

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from runtime_worker.engines.modes.node import AGENT, ERROR_HANDLER, SUGGESTION, ModeNode
from runtime_worker.engines.nodes.run import Instance, RunContext
from runtime_worker.engines.nodes.visit import ModeWork

Graph = CompiledStateGraph[Any, RunContext[Any], Any, Any]


class Template(NamedTuple):
    """What instances have in common that share a compiled graph: a shape and, as `(pid, name)`, the plugin agents."""

    shape: Hashable
    agents: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, instance: Instance) -> "Template":
        return cls(instance.policy.shape, tuple((pid, agent.name) for pid, agent in instance.agents.items()))

    def names(self, node: ModeNode | None) -> list[str]:
        """What the graph calls a node of the mode: one name but for the plugin agents, each a node of its own."""
        if node is None:
            return [END]
        return [_agent_node(name) for _, name in self.agents] if node.value == AGENT else [node.value]

    def target(self, node: ModeNode | None, agent: str) -> str:
        """The name of one that follows; `agent` is the pid when it is a plugin agent."""
        if node is not None and node.value == AGENT:
            return _agent_node(dict(self.agents)[agent])
        return END if node is None else node.value


def compile_graph(mode: ModeWork[Any, Any, Any], template: Template) -> Graph:
    """The graph of a mode for the instances of one template."""
    builder = StateGraph(mode.state_type, context_schema=RunContext)
    for node, followers in mode.routes(template.shape).items():
        for name in template.names(node):
            possible = tuple(_possible(node, name, followers, template))
            builder.add_node(name, _GraphNode(mode, node, template), destinations=possible)
    entries = template.names(mode.entry)
    if len(entries) == 1:
        builder.add_edge(START, entries[0])
    else:
        builder.add_conditional_edges(START, _entry(mode, template), entries)
    return builder.compile(name=mode.name)


class _GraphNode:
    """A node's work. Not a function, whose code LangGraph would search for subgraphs: half of a compilation."""

    def __init__(self, mode: ModeWork[Any, Any, Any], node: ModeNode, template: Template) -> None:
        self._mode = mode
        self._node = node
        self._template = template

    async def __call__(self, state: Any, runtime: Runtime[RunContext[Any]]) -> Command[Any]:
        update, following = await self._mode.visit(self._node, state, runtime.context)
        agent = "" if following is None else self._mode.agent(following, {**state, **update})
        # The node says itself where to go: conditional edges would cost a third of what LangGraph takes for a run.
        return Command(update=update, goto=self._template.target(following, agent))


def _entry(mode: ModeWork[Any, Any, Any], template: Template) -> Any:
    def choose(state: Any) -> str:
        return template.target(mode.entry, mode.agent(mode.entry, state))

    return choose


def _possible(node: ModeNode, name: str, followers: Any, template: Template) -> Iterator[str]:
    for follower in followers:
        # Nobody transfers to itself.
        yield from (other for other in template.names(follower) if other != name)
    # A suggestion follows a whole answer: its failure is nobody's to answer for.
    if node.value not in (ERROR_HANDLER, SUGGESTION):
        yield ERROR_HANDLER


def _agent_node(name: str) -> str:
    return f"{name}_agent"
