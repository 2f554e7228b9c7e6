"""A chat with one plugin in the terminal: the demo model decides, the plugin's tools run here, no stack is needed.

What happens is what happens on the platform, made small: the model is offered the tools over OpenAI's chat completions,
its calls are checked and run by the SDK's harness, and the results go back to it until it answers.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from cadence_sdk.testing import ArgumentsRefused, PluginHarness, ToolUnknown
from pydantic import BaseModel

from deploy.demo.model_server import MODEL, create_app
from deploy.errors import DeployError
from deploy.plugins.telling import Telling

MAX_ROUNDS = 8
"""Rounds of tool calls in one turn, after which the model has to answer."""
MAX_RESULT_CHARS = 20_000
"""What a worker gives a model of a result, and so what is given here."""


class ModelFailed(DeployError):
    """The model did not answer as chat completions do."""


@asynccontextmanager
async def demo_model() -> AsyncIterator[str]:
    """The demo model in this process on a free port; its `…/v1` address."""
    runner = web.AppRunner(create_app(word_seconds=0), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


class PluginChat:
    """One conversation: each message sees those before it."""

    def __init__(
        self, harness: PluginHarness, session: aiohttp.ClientSession, model_url: str, telling: Telling
    ) -> None:
        self._harness = harness
        self._session = session
        self._url = f"{model_url}/chat/completions"
        self._telling = telling
        self._messages: list[dict[str, Any]] = []
        if harness.system_prompt:
            self._messages.append({"role": "system", "content": harness.system_prompt})
        self._offered = [
            {
                "type": "function",
                "function": {"name": name, "description": tool.description, "parameters": harness.schema(name)},
            }
            for name, tool in harness.tools.items()
        ]

    async def say(self, text: str) -> bool:
        """Tell the answer to a message; whether every tool call of it worked. Raises ModelFailed."""
        self._messages.append({"role": "user", "content": text})
        all_worked = True
        for round_number in range(MAX_ROUNDS + 1):
            message = await self._ask(with_tools=round_number < MAX_ROUNDS)
            self._messages.append(message)
            calls = message.get("tool_calls") or ()
            if not calls:
                self._telling.answer(message.get("content") or "")
                return all_worked
            for call in calls:
                all_worked &= await self._run(call["id"], call["function"]["name"], call["function"]["arguments"])
        raise ModelFailed(f"The model still calls tools after {MAX_ROUNDS} rounds.")

    async def _ask(self, *, with_tools: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": MODEL, "messages": self._messages}
        if self._offered:
            body |= {"tools": self._offered, "tool_choice": "auto" if with_tools else "none"}
        try:
            async with self._session.post(self._url, json=body) as response:
                response.raise_for_status()
                message: dict[str, Any] = (await response.json())["choices"][0]["message"]
                return message
        except (aiohttp.ClientError, TimeoutError, LookupError, ValueError) as error:
            raise ModelFailed(f"The model did not answer: {str(error) or type(error).__name__}") from None

    async def _run(self, call_id: str, name: str, text: str) -> bool:
        arguments = json.loads(text)
        self._telling.tool_start(name, arguments)
        try:
            result = await self._harness.call(name, **arguments)
            shown = await self._harness.shown(name, result)
        except (ArgumentsRefused, ToolUnknown) as error:
            self._telling.tool_failed(name, str(error))
            content, worked = f"The call is not valid: {error}", False
        except Exception as error:
            # The author's code may raise anything. The author sees all of it; the model, as on the platform, nothing.
            self._telling.tool_raised(name, error)
            content, worked = f"The tool {name} failed.", False
        else:
            content, worked = as_text(result), True
            self._telling.tool_end(name, content, as_text(shown) if self._harness.tools[name].stream_tool else None)
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        return worked


def as_text(result: Any) -> str:
    """What the model reads of a result."""
    text = result if isinstance(result, str) else json.dumps(result, default=_plain, ensure_ascii=False)
    return text if len(text) <= MAX_RESULT_CHARS else text[:MAX_RESULT_CHARS] + "\n[truncated]"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
