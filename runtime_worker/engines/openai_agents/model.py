"""Our model client as a model of the Agents SDK, so that agents stay ordinary agents and runs ordinary runs."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

from agents import (
    AgentOutputSchemaBase,
    FunctionTool,
    Handoff,
    Model,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    Tool,
    TResponseInputItem,
)
from agents.items import TResponseOutputItem, TResponseStreamEvent
from agents.model_settings import MCPToolChoice
from agents.models.fake_id import FAKE_RESPONSES_ID
from openai.types.responses import Response, ResponseCompletedEvent
from openai.types.responses.response_prompt_param import ResponsePromptParam
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails, ResponseUsage

from runtime_worker.engines.openai_agents.items import from_items, output_items, sdk_usage
from runtime_worker.engines.toolbox import NO_ARGUMENTS
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelRequest, ModelTool

Ask = Callable[[ModelRequest], Awaitable[ModelAnswer]]
"""Answers one request: a client's `complete`, or what a run does around it."""


class ClientModel(Model):
    """What an agent asks. Text takes the short way from the client to whoever reads it; the SDK gets the finished
    message, also when a run is streamed: one `response.completed` instead of an event per token.

    Calls of what was not offered, and those whose ids are `refused` when the answer is there, find nothing to call.
    """

    def __init__(self, ask: Ask, *, name: str, timeout_seconds: float, refused: Collection[str] = ()) -> None:
        self._ask = ask
        self._refused = refused
        self._name = name
        self._timeout_seconds = timeout_seconds

    async def answer(
        self,
        system_instructions: str | None,
        given: str | list[TResponseInputItem],
        settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
    ) -> ModelAnswer:
        """What is asked of an agent's model, answered in our own terms: the SDK's are pydantic models, dear to make
        where nobody reads them."""
        messages = from_items(given)
        if system_instructions:
            messages.insert(0, ModelMessage("system", system_instructions))
        request = ModelRequest(
            messages=messages,
            tools=(*map(_offered, tools), *map(_offered_handoff, handoffs)),
            tool_choice=_tool_choice(settings),
            parallel_tool_calls=settings.parallel_tool_calls is not False,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            response_schema=_schema(output_schema),
            timeout_seconds=self._timeout_seconds,
        )
        return await self._ask(request)

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002 - the SDK calls by this name
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: ResponsePromptParam | None,
    ) -> ModelResponse:
        """See `Model`. Raises ModelError as the client does; cancelling closes the upstream socket."""
        answer = await self.answer(system_instructions, input, model_settings, tools, output_schema, handoffs)
        output = self._output(answer, tools, handoffs)
        return ModelResponse(output=output, usage=sdk_usage(answer.usage), response_id=None)

    async def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002 - the SDK calls by this name
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        *,
        previous_response_id: str | None,
        conversation_id: str | None,
        prompt: ResponsePromptParam | None,
    ) -> AsyncIterator[TResponseStreamEvent]:
        answer = await self.answer(system_instructions, input, model_settings, tools, output_schema, handoffs)
        response = _response(answer, self._output(answer, tools, handoffs), self._name, model_settings)
        yield ResponseCompletedEvent(type="response.completed", sequence_number=0, response=response)

    def _output(
        self, answer: ModelAnswer, tools: list[Tool], handoffs: list[Handoff[Any, Any]]
    ) -> list[TResponseOutputItem]:
        # Some names the SDK takes for its own hosted tools, and raises where an agent has none of those.
        offered = {*(tool.name for tool in tools), *(handoff.tool_name for handoff in handoffs)}
        calls = answer.tool_calls
        unreachable = {call.id for call in calls if call.name not in offered or call.id in self._refused}
        return output_items(answer, unreachable)


def _offered(tool: Tool) -> ModelTool:
    if not isinstance(tool, FunctionTool):
        raise ValueError(f"the hosted tool {tool.name!r} has no place in a chat completion")
    return ModelTool(tool.name, tool.description, tool.params_json_schema)


def _offered_handoff(handoff: Handoff[Any, Any]) -> ModelTool:
    return ModelTool(handoff.tool_name, handoff.tool_description, handoff.input_json_schema or NO_ARGUMENTS)


def _tool_choice(settings: ModelSettings) -> str:
    if isinstance(settings.tool_choice, MCPToolChoice):
        raise ValueError("a tool of an MCP server that the provider hosts cannot be chosen")
    return settings.tool_choice or "auto"


def _schema(output: AgentOutputSchemaBase | None) -> dict[str, Any] | None:
    return None if output is None or output.is_plain_text() else output.json_schema()


def _response(
    answer: ModelAnswer, output: list[TResponseOutputItem], model_name: str, settings: ModelSettings
) -> Response:
    usage = answer.usage
    return Response(
        id=FAKE_RESPONSES_ID,
        created_at=time.time(),
        model=model_name,
        object="response",
        output=output,
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=settings.parallel_tool_calls is not False,
        usage=ResponseUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.input_tokens + usage.output_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens, cache_write_tokens=0),
            output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
        ),
    )


async def _comes_with_each_run(request: ModelRequest) -> ModelAnswer:
    raise LookupError("an agent was run without the model of its run")


UNKNOWN_MODEL = ClientModel(_comes_with_each_run, name="", timeout_seconds=0)
"""What agents have while nobody runs them."""
