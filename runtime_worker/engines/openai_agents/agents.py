"""The nodes of an instance as agents of the Agents SDK. Built once; everything else comes with a run's context."""

import inspect
from collections.abc import Sequence
from typing import Any

from agents import Agent, AgentOutputSchemaBase, Handoff, ModelSettings, RunContextWrapper
from agents import _run_state_agent_identity as identity

from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.engines.openai_agents.model import UNKNOWN_MODEL
from runtime_worker.engines.openai_agents.run import AgentsRun
from runtime_worker.engines.openai_agents.tools import function_tools

AnyAgent = Agent[AgentsRun[Any]]


def agent_of(
    parts: NodeParts,
    name: str,
    *,
    schema: dict[str, Any] | None = None,
    handoffs: Sequence[Handoff[AgentsRun[Any], AnyAgent]] = (),
    **options: Any,
) -> AnyAgent:
    """The agent of one node; with a `schema` it decides. Its model comes with each run, which counts the calls."""
    # What becomes a handoff is offered to the node's model as a tool among the others.
    transfers = {handoff.tool_name for handoff in handoffs}
    return NodeAgent(
        name=name,
        # Without one the SDK would copy the settings of its vendor's default model in every run, to compare.
        model=UNKNOWN_MODEL,
        instructions=_instructions,
        tools=function_tools([tool for tool in parts.tools if tool.name not in transfers]),
        handoffs=list(handoffs),
        model_settings=ModelSettings(
            temperature=parts.model.temperature,
            max_tokens=parts.model.max_tokens,
            tool_choice=parts.tool_choice,
            parallel_tool_calls=parts.parallel_tool_calls,
        ),
        output_type=JSONDecision(schema) if schema is not None else None,
        # What a node may choose is the policy's matter, in every turn anew.
        reset_tool_choice=False,
        **options,
    )


class NodeAgent(Agent[AgentsRun[Any]]):
    """Its arguments are ours alone. To check those of each agent, the SDK evaluates its own type hints and copies the
    settings of its vendor's default model: two thirds of all that a build takes."""

    def __post_init__(self) -> None: ...


def tell_nodes_apart_by_name() -> None:
    """Have the SDK take a node's agent for what its name says.

    Twice in every run the SDK writes out all that the agents of the run are made of, so that a run which somebody saves
    finds them again where two have one name: a fifth of what it does in a run, and more with each agent that can be
    handed over to. Nobody saves runs here, and the agents of an instance have names of their own. It asks no agent for
    it and offers no switch: this is a function of its own, in a module that is not public.
    """
    written_out = identity._agent_identity_signature

    def told_apart(agent: Agent[Any]) -> str:
        return agent.name if isinstance(agent, NodeAgent) else written_out(agent)

    identity._agent_identity_signature = told_apart


tell_nodes_apart_by_name()


def _instructions(context: RunContextWrapper[AgentsRun[Any]], agent: AnyAgent) -> str:
    return context.context.instructions().content


# The SDK asks for it in every turn, and Python puts it together anew each time unless it is there.
_instructions.__signature__ = inspect.signature(_instructions)  # type: ignore[attr-defined]


class JSONDecision(AgentOutputSchemaBase):
    """Structured output by a schema of ours. What the model wrote is handed on as it is: reading it, with what some
    models put around it, and one repair are the mode's and the same on every framework."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema

    def is_plain_text(self) -> bool:
        return False

    def name(self) -> str:
        return "answer"

    def json_schema(self) -> dict[str, Any]:
        return self._schema

    def is_strict_json_schema(self) -> bool:
        return True

    def validate_json(self, json_str: str) -> str:
        return json_str
