"""Our model client as an ADK model, so that agents stay ordinary `LlmAgent`s."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from functools import cache, lru_cache

from google.adk.models import BaseLlm, LlmCapabilities
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from runtime_worker.engines.google_adk.contents import answer_response, messages_of, tools_of
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest

DEFAULT_TIMEOUT_SECONDS = 60.0

Ask = Callable[[ModelRequest, DeltaSink | None], Awaitable[ModelAnswer]]
"""Answers one request: a client's `complete`, or what a run does around it."""

short_way: ContextVar[DeltaSink | None] = ContextVar("short_way", default=None)
"""Where the text of the model call that is being made goes while it arrives; None for what no user sees.

A model knows nothing of the agent that calls it, and ADK takes 155 µs for every event it passes on: so deltas go from
the socket to the run's sink, and ADK gets the finished message.
"""


class ClientLlm(BaseLlm):
    """What an agent asks. Everything a call may say comes with ADK's own request, but for `parallel_tool_calls`, which
    it has no place for."""

    ask: Ask
    parallel_tool_calls: bool = True

    @property
    def capabilities(self) -> LlmCapabilities:
        # Said outright: the inherited answer is guessed from the model's name.
        return LlmCapabilities(output_schema_and_tools=True)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Yields one whole response, also when asked to stream: fragments are optional in ADK.

        Raises ModelError as the client does; cancelling closes the upstream socket.
        """
        yield answer_response(await self.ask(self._request(llm_request), short_way.get()))

    def _request(self, llm_request: LlmRequest) -> ModelRequest:
        config = llm_request.config
        return ModelRequest(
            messages=messages_of(llm_request),
            tools=tools_of(llm_request),
            tool_choice=_tool_choice(config),
            parallel_tool_calls=self.parallel_tool_calls,
            temperature=config.temperature,
            max_tokens=config.max_output_tokens,
            response_schema=config.response_schema if isinstance(config.response_schema, dict) else None,
            timeout_seconds=_timeout_seconds(config),
        )


@cache
def calling(tool_choice: str) -> types.ToolConfig | None:
    """A tool choice as ADK's requests say it; nothing said means that the model chooses."""
    match tool_choice:
        case "auto":
            return None
        case "none":
            chosen = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.NONE)
        case "required":
            chosen = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
        case name:
            chosen = types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=[name]
            )
    return types.ToolConfig(function_calling_config=chosen)


@lru_cache(maxsize=256)
def within(seconds: float) -> types.HttpOptions:
    """A call's deadline as ADK's requests say it, in whole milliseconds."""
    return types.HttpOptions(timeout=max(1, round(seconds * 1000)))


def _tool_choice(config: types.GenerateContentConfig) -> str:
    chosen = config.tool_config.function_calling_config if config.tool_config else None
    match chosen and chosen.mode:
        case types.FunctionCallingConfigMode.NONE:
            return "none"
        case types.FunctionCallingConfigMode.ANY:
            names = (chosen and chosen.allowed_function_names) or ()
            return names[0] if len(names) == 1 else "required"
        case _:
            return "auto"


def _timeout_seconds(config: types.GenerateContentConfig) -> float:
    timeout_ms = config.http_options.timeout if config.http_options else None
    return timeout_ms / 1000 if timeout_ms else DEFAULT_TIMEOUT_SECONDS
