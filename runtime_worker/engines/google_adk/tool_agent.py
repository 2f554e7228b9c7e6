"""The agent of a node with tools: ADK's loop of model and tools, without what gathers requests and traces calls."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from google.adk.agents import LlmAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from google.adk.flows.llm_flows._base_llm_processor import BaseLlmRequestProcessor
from google.adk.flows.llm_flows.base_llm_flow import BaseLlmFlow
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from runtime_worker.engines.google_adk.bare_agent import BareAgent
from runtime_worker.engines.google_adk.client_llm import ClientLlm
from runtime_worker.engines.google_adk.requests import fill_in
from runtime_worker.engines.google_adk.tools import OfferedTool


class ToolAgent(BareAgent, LlmAgent):
    """Shared by all runs of its instance. `config` is what its calls have in common, its tools declared in it."""

    model: ClientLlm
    config: types.GenerateContentConfig

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        async with aclosing(_FLOW.run_async(ctx)) as events:
            async for event in events:
                yield event


class _Prepared(BaseLlmRequestProcessor):
    """In place of the dozen processors that gather a request from a session, instructions and tools: here it is the
    mode that says what a node sees."""

    async def run_async(
        self, invocation_context: InvocationContext, llm_request: LlmRequest
    ) -> AsyncGenerator[Event, None]:
        agent = _agent(invocation_context)
        fill_in(llm_request, agent.model.model, agent.config)
        tools = cast("list[OfferedTool]", agent.tools)
        llm_request.tools_dict = {tool.name: tool for tool in tools}
        invocation_context.canonical_tools_cache = [*tools]
        for event in _NO_EVENTS:
            yield event


class _NodeFlow(BaseLlmFlow):
    """Holds nothing of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.request_processors = [_Prepared()]
        self.tool_request_processors = []

    async def _call_llm_async(
        self, invocation_context: InvocationContext, llm_request: LlmRequest, model_response_event: Event
    ) -> AsyncGenerator[LlmResponse, None]:
        # Spans and counts that nobody reads would cost as much as the call itself.
        async with aclosing(_agent(invocation_context).model.generate_content_async(llm_request)) as responses:
            async for response in responses:
                yield response


def _agent(context: InvocationContext) -> ToolAgent:
    return cast("ToolAgent", context.agent)


_NO_EVENTS: tuple[Event, ...] = ()
_FLOW = _NodeFlow()
