"""A mode as a LangGraph graph. Compiled once per template: everything else comes with a run's context."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from runtime_worker.engines.modes.node import AGENT, ERROR_HANDLER, SUGGESTION, ModeNode
from runtime_worker.engines.nodes.run import Instance, RunContext
from runtime_worker.engines.nodes.visit import ModeWork, merged


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


class Graph:
    """The graph of a mode for the instances of one template."""

    def __init__(self, mode: ModeWork[Any, Any, Any], template: Template) -> None:
        self._mode = mode
        self._template = template
        self._compiled = compiled = _compile(mode, template)
        # What drives runs is the same without two fifths of what a run costs whatever it does, and of no use here: a
        # step of its own before the first node, and reports of each node's parts to LangChain's callbacks.
        self._doors = {name: compiled.nodes[name].triggers[0] for name in template.names(mode.entry)}
        self._driven = compiled.copy(
            {
                "nodes": {name: _unreported(node) for name, node in compiled.nodes.items() if name != START},
                "input_channels": [*mode.state_type.__annotations__, *self._doors.values()],
            }
        )

    async def run(self, context: RunContext[Any]) -> Any:
        """One run from beginning to end; the state it ends in."""
        drive = _Drive(context, self._mode.begin(context))
        door = self._doors[self._template.target(self._mode.entry, self._mode.agent(self._mode.entry, drive.state))]
        config: RunnableConfig = {"recursion_limit": context.instance.policy.max_steps}
        # Nobody listens to its steps: the state it ends in is what the last node leaves.
        async for _ in self._driven.astream({**drive.state, door: None}, config, context=drive, stream_mode=[]):
            pass
        return drive.state

    def mermaid(self) -> str:
        return self._compiled.get_graph().draw_mermaid()


@dataclass
class _Drive:
    """What a run's nodes find in their runtime: what belongs to the run, and the state after the last of them."""

    run: RunContext[Any]
    state: Any


def _compile(mode: ModeWork[Any, Any, Any], template: Template) -> CompiledStateGraph[Any, _Drive, Any, Any]:
    builder: StateGraph[Any, _Drive, Any, Any] = StateGraph(mode.state_type, context_schema=_Drive)
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

    async def __call__(self, state: Any, runtime: Runtime[_Drive]) -> Command[Any]:
        drive = runtime.context
        update, following = await self._mode.visit(self._node, state, drive.run)
        drive.state = after = merged(state, update)
        agent = "" if following is None else self._mode.agent(following, after)
        # The node says itself where to go: conditional edges would cost a third of what LangGraph takes for a run.
        return Command(update=update, goto=self._template.target(following, agent))


class _Steps(Runnable[Any, Any]):
    """One after the other. LangChain's own sequence tells callbacks of each, which we have none of."""

    def __init__(self, *steps: Runnable[Any, Any]) -> None:
        self._steps = steps

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - the port's
        for step in self._steps:
            input = step.invoke(input, config, **kwargs)  # noqa: A001
        return input

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        for step in self._steps:
            input = await step.ainvoke(input, config, **kwargs)  # noqa: A001
        return input


def _unreported(node: Any) -> Any:
    return node.copy({"bound": _Steps(node.bound, *node.flat_writers), "writers": []})


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
