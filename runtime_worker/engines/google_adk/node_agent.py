"""The agent of a node. Its calls say what the run that makes them has prepared."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from google.adk.agents import BaseAgent, LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from runtime_worker.engines.google_adk.client_llm import ClientLlm, calling, within
from runtime_worker.engines.google_adk.contents import system_text, to_contents
from runtime_worker.engines.google_adk.run import current_run
from runtime_worker.engines.google_adk.tools import OfferedTool, answer_unknown
from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest


def node_agent(parts: NodeParts, *, name: str, tools: Sequence[OfferedTool]) -> BaseAgent:
    """Shared by all runs of its instance."""
    config = types.GenerateContentConfig(temperature=parts.model.temperature, max_output_tokens=parts.model.max_tokens)
    if not tools or parts.tool_choice == "none":
        if tools:
            config.tools = [types.Tool(function_declarations=[tool.declaration for tool in tools])]
        return SpeakingAgent(name=name, model=node_model(parts), config=config)
    return LlmAgent(
        name=name,
        model=node_model(parts),
        generate_content_config=config,
        tools=list(tools),
        before_model_callback=before_model,
        before_tool_callback=answer_unknown,
        # What a node sees is the mode's to say. ADK would retell it the words of the other agents.
        include_contents="none",
        # And so is who has the floor next.
        disallow_transfer_to_parent=True,
        disallow_transfer_to_peers=True,
    )


class SpeakingAgent(BaseAgent):
    """A custom agent that asks its model once: without a tool to call there is nothing for the loop of an `LlmAgent` to
    do, and that takes three times as much for the same words."""

    model: ClientLlm
    config: types.GenerateContentConfig

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        request = LlmRequest(model=self.model.model, config=self.config.model_copy())
        say_what_is_prepared(request)
        async with aclosing(self.model.generate_content_async(request)) as responses:
            async for response in responses:
                yield Event(invocation_id=ctx.invocation_id, author=self.name, content=response.content)


def node_model(parts: NodeParts) -> ClientLlm:
    async def ask(request: ModelRequest, on_delta: DeltaSink | None) -> ModelAnswer:
        return await current_run.get().complete(parts, request, on_delta)

    name = parts.model.client.model_name
    return ClientLlm(model=name, ask=ask, parallel_tool_calls=parts.parallel_tool_calls)


def before_model(callback_context: CallbackContext, llm_request: LlmRequest) -> None:
    """In place of what ADK has gathered."""
    say_what_is_prepared(llm_request)


def say_what_is_prepared(llm_request: LlmRequest) -> None:
    prepared = current_run.get().prepared
    llm_request.contents = to_contents(prepared.messages)
    config = llm_request.config
    config.system_instruction = system_text(prepared.messages)
    config.tool_config = calling(prepared.tool_choice)
    config.http_options = within(prepared.timeout_seconds)
    if prepared.response_schema is not None:
        llm_request.set_output_schema(prepared.response_schema)
