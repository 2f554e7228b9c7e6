"""The agent of a node. Its calls say what the run that makes them has prepared."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from runtime_worker.engines.google_adk.bare_agent import BareAgent
from runtime_worker.engines.google_adk.client_llm import ClientLlm
from runtime_worker.engines.google_adk.requests import fill_in
from runtime_worker.engines.google_adk.run import current_run
from runtime_worker.engines.google_adk.tool_agent import ToolAgent
from runtime_worker.engines.google_adk.tools import OfferedTool, answer_unknown
from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest


def node_agent(parts: NodeParts, *, name: str, tools: Sequence[OfferedTool]) -> BaseAgent:
    """Shared by all runs of its instance."""
    config = types.GenerateContentConfig(temperature=parts.model.temperature, max_output_tokens=parts.model.max_tokens)
    if tools:
        config.tools = [types.Tool(function_declarations=[tool.declaration for tool in tools])]
    if not tools or parts.tool_choice == "none":
        return SpeakingAgent(name=name, model=node_model(parts), config=config)
    return ToolAgent(
        name=name,
        model=node_model(parts),
        config=config,
        tools=list(tools),
        before_tool_callback=answer_unknown,
        # Who has the floor next is the mode's to say.
        disallow_transfer_to_parent=True,
        disallow_transfer_to_peers=True,
    )


class SpeakingAgent(BareAgent):
    """A custom agent that asks its model once: without a tool to call there is nothing for the loop of an `LlmAgent` to
    do, and that takes longer for the same words."""

    model: ClientLlm
    config: types.GenerateContentConfig

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        request = LlmRequest()
        fill_in(request, self.model.model, self.config)
        async with aclosing(self.model.generate_content_async(request)) as responses:
            async for response in responses:
                yield Event(invocation_id=ctx.invocation_id, author=self.name, content=response.content)


def node_model(parts: NodeParts) -> ClientLlm:
    async def ask(request: ModelRequest, on_delta: DeltaSink | None) -> ModelAnswer:
        return await current_run.get().complete(parts, request, on_delta)

    name = parts.model.client.model_name
    return ClientLlm(model=name, ask=ask, parallel_tool_calls=parts.parallel_tool_calls)
