"""The nodes of an instance as agents of the Agents SDK. Built once; everything else comes with a run's context."""

from collections.abc import Sequence
from typing import Any

from agents import Agent, AgentOutputSchemaBase, Handoff, ModelSettings, RunContextWrapper

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
        model_settings=NodeSettings(
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


class NodeSettings(ModelSettings):
    """The settings of a node's model.

    Twice in every run the SDK writes out the settings of each agent, to tell agents of one name apart: half of all that
    a run costs. The agents of an instance have names of their own, and what can be called is told by its name alone.
    """

    def __call__(self) -> ModelSettings:
        return self


def _instructions(context: RunContextWrapper[AgentsRun[Any]], agent: AnyAgent) -> str:
    return context.context.instructions().content


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
