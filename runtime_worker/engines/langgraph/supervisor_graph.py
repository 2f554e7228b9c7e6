"""The supervisor as a LangGraph graph. Compiled once per shape: everything else comes with a run's context."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Protocol, cast

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from runtime_worker.engines.langgraph.supervisor_nodes import (
    RunContext,
    SupervisorState,
    apologize,
    control_tools,
    converse,
    facilitate,
    failure_of,
    suggest,
    supervise,
    synthesize,
    validate,
)
from runtime_worker.engines.modes.supervisor import Node, Shape

SupervisorGraph = CompiledStateGraph[SupervisorState, RunContext, SupervisorState, SupervisorState]
Work = Callable[[SupervisorState, RunContext], Awaitable[dict[str, Any]]]


Choose = Callable[[SupervisorState, RunContext], str]
"""Which node follows; asks the policy, decides nothing."""


class _GraphNode(Protocol):
    async def __call__(self, state: SupervisorState, runtime: Runtime[RunContext]) -> Command[Any]: ...


@cache
def compiled_graph(shape: Shape) -> SupervisorGraph:
    """The graph for one shape; there are eight at most, and they are kept."""
    builder = StateGraph(SupervisorState, context_schema=RunContext)
    works: dict[Node, Work] = {
        Node.SUPERVISOR: supervise,
        Node.CONTROL_TOOLS: control_tools,
        Node.SYNTHESIZER: synthesize,
        Node.CONVERSATIONAL: converse,
        Node.ERROR_HANDLER: apologize,
    }
    if shape.has_validation:
        works[Node.VALIDATION] = validate
    if shape.has_facilitator:
        works[Node.FACILITATOR] = facilitate
    if shape.has_suggestion:
        works[Node.SUGGESTION] = suggest
    routes = _routes(shape)
    for node, work in works.items():
        choose, targets = routes[node]
        possible = tuple(
            dict.fromkeys([*targets, Node.ERROR_HANDLER.value] if node is not Node.ERROR_HANDLER else targets)
        )
        builder.add_node(node.value, _graph_node(node, work, choose), destinations=possible)
    builder.add_edge(START, Node.SUPERVISOR.value)
    return builder.compile(name="supervisor")


def _routes(shape: Shape) -> dict[Node, tuple[Choose, list[str]]]:
    """For each node what chooses the next one, and between which; a failure leads to the error handler besides."""
    from_results = Node.VALIDATION if shape.has_validation else Node.SYNTHESIZER
    decided = [Node.CONTROL_TOOLS, Node.SYNTHESIZER, Node.CONVERSATIONAL]
    if shape.has_validation:
        decided.append(Node.VALIDATION)
    if shape.has_clarification:
        decided.append(Node.FACILITATOR)
    suggestion = [Node.SUGGESTION.value] if shape.has_suggestion else []
    return {
        Node.SUPERVISOR: (_after_supervisor, [node.value for node in decided]),
        Node.CONTROL_TOOLS: (_after_tools, [Node.SUPERVISOR.value, from_results.value, Node.SYNTHESIZER.value]),
        Node.VALIDATION: (_after_validation, [Node.SYNTHESIZER.value, Node.FACILITATOR.value]),
        Node.SYNTHESIZER: (_after_answer(Node.SYNTHESIZER), [*suggestion, END]),
        Node.CONVERSATIONAL: (_after_answer(Node.CONVERSATIONAL), [*suggestion, END]),
        Node.FACILITATOR: (_after_answer(Node.FACILITATOR), [END]),
        Node.ERROR_HANDLER: (_to_the_end, [END]),
        Node.SUGGESTION: (_to_the_end, [END]),
    }


def _graph_node(node: Node, work: Work, choose: Choose) -> _GraphNode:
    async def run_node(state: SupervisorState, runtime: Runtime[RunContext]) -> Command[Any]:
        run = runtime.context
        with run.telling.agent(node.agent, node.value):
            try:
                update = await work(state, run)
            except Exception as error:  # A node is where the mode promises to answer in words, whatever went wrong.
                failure = failure_of(error, node, run)
                if run.instance.policy.after_failure(node, has_visible_text=run.telling.has_visible_text) is None:
                    raise failure from error
                return Command(update={"failure": failure}, goto=Node.ERROR_HANDLER.value)
        # The node says itself where to go: conditional edges would cost a third of what LangGraph takes for a run.
        return Command(update=update, goto=choose(cast("SupervisorState", {**state, **update}), run))

    return run_node


def _after_supervisor(state: SupervisorState, run: RunContext) -> str:
    return run.instance.policy.after_supervisor(state["decision"], state["progress"]).value


def _after_tools(state: SupervisorState, run: RunContext) -> str:
    return run.instance.policy.after_tools(state["progress"]).value


def _after_validation(state: SupervisorState, run: RunContext) -> str:
    return run.instance.policy.after_validation(is_valid=state["is_valid"]).value


def _after_answer(node: Node) -> Choose:
    def choose(state: SupervisorState, run: RunContext) -> str:
        following = run.instance.policy.after_answer(node)
        return following.value if following else END

    return choose


def _to_the_end(state: SupervisorState, run: RunContext) -> str:
    return END
