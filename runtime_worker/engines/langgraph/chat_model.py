"""Our model client as a LangChain chat model, so that graphs stay ordinary LangGraph graphs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from runtime_worker.engines.base import ModelChoice
from runtime_worker.engines.langgraph.messages import (
    ESTIMATED,
    answer_message,
    from_langchain,
    signature_kwargs,
    usage_metadata,
)
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelClient, ModelRequest, ModelTool

DEFAULT_TIMEOUT_SECONDS = 60.0


class ClientChatModel(BaseChatModel):
    """One node's model. Deltas take the short way: `on_delta`, given with a call, gets text straight from the socket,
    and LangChain gets the finished message. `astream` works as with any chat model, at the framework's price.

    Calls take, by `bind` or directly: `tools`, `tool_choice`, `parallel_tool_calls`, `response_schema`,
    `timeout_seconds`, `on_delta`.
    """

    client: Any
    """A `ModelClient`; typed loosely because pydantic cannot check a protocol."""
    temperature: float | None = None
    max_tokens: int | None = None
    # A process-global LangChain cache would hand one organization's answers to another.
    cache: Any = False

    @classmethod
    def of(cls, choice: ModelChoice) -> "ClientChatModel":
        return cls(client=choice.client, temperature=choice.temperature, max_tokens=choice.max_tokens)

    @property
    def _llm_type(self) -> str:
        return "cadence"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool | ModelTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools: our own `ModelTool`s, or anything LangChain can describe."""
        offered = tuple(tool if isinstance(tool, ModelTool) else _described(tool) for tool in tools)
        choice = "required" if tool_choice == "any" else tool_choice or "auto"
        return self.bind(tools=offered, tool_choice=choice, **kwargs)

    async def answer(
        self, messages: list[BaseMessage], *, on_delta: DeltaSink | None = None, **options: Any
    ) -> AIMessage:
        """What `ainvoke` returns, without LangChain's callbacks, tracing and caching on the way: nobody here listens to
        them, and they cost 0.4 ms of CPU a call."""
        return answer_message(await self._client.complete(self._request(messages, options), on_delta))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("the worker is asynchronous: use ainvoke or astream")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        on_delta: DeltaSink | None = kwargs.pop("on_delta", None)
        message = await self.answer(messages, on_delta=on_delta, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        on_delta: DeltaSink | None = kwargs.pop("on_delta", None)
        arrived: asyncio.Queue[str | None] = asyncio.Queue()

        def deliver(text: str) -> None:
            arrived.put_nowait(text)
            if on_delta is not None:
                on_delta(text)

        completing = asyncio.ensure_future(self._client.complete(self._request(messages, kwargs), deliver))
        completing.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            while (text := await arrived.get()) is not None:
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(text, chunk=chunk)
                yield chunk
            yield ChatGenerationChunk(message=_last_chunk(await completing))
        finally:
            # Whoever stops reading stops the model too.
            completing.cancel()
            await asyncio.wait({completing})

    @property
    def _client(self) -> ModelClient:
        client: ModelClient = self.client
        return client

    def _request(self, messages: list[BaseMessage], options: dict[str, Any]) -> ModelRequest:
        known = {name: options[name] for name in _REQUEST_OPTIONS if name in options}
        return ModelRequest(
            messages=from_langchain(messages), temperature=self.temperature, max_tokens=self.max_tokens, **known
        )


_REQUEST_OPTIONS = ("tools", "tool_choice", "parallel_tool_calls", "response_schema", "timeout_seconds")


def _described(tool: Any) -> ModelTool:
    function = convert_to_openai_tool(tool)["function"]
    parameters = function.get("parameters", {"type": "object", "properties": {}})
    return ModelTool(function["name"], function.get("description", ""), parameters)


def _last_chunk(answer: ModelAnswer) -> AIMessageChunk:
    """What comes once, behind the text: tool calls, usage, why it ended."""
    calls = [
        tool_call_chunk(name=call.name, args=call.arguments or "{}", id=call.id, index=index)
        for index, call in enumerate(answer.tool_calls)
    ]
    return AIMessageChunk(
        content="",
        tool_call_chunks=calls,
        additional_kwargs=signature_kwargs(answer.tool_calls),
        usage_metadata=usage_metadata(answer.usage),
        response_metadata={"finish_reason": answer.finish_reason, ESTIMATED: answer.usage.is_estimated},
        chunk_position="last",
    )
