"""The model of a chaos run: what it says names the turn that it was asked in, word by word.

A message asks for its answer itself: `[[marker]] words=30 tool=1`. So every word of an answer tells whose it is and
which place it has, and whoever asks again gets the same. A turn that was shown to a model together with anything of
another conversation is noted as foreign.
"""

import asyncio
import json
import re
import zlib
from typing import Any

import msgspec
from aiohttp import web

WORD_SECONDS = 0.04
_ASKED = re.compile(r"\[\[([\w.-]+)\]\] words=(\d+) tool=([01])")
_MARKER = re.compile(r"\b(t\d+-c\d+-\d+)-\d+\b")


class Question(msgspec.Struct, frozen=True):
    """One turn. `conversation` is the part of its marker that all turns of a conversation have in common."""

    marker: str
    words: int
    uses_tool: bool = False

    @property
    def message(self) -> str:
        return f"[[{self.marker}]] words={self.words} tool={int(self.uses_tool)}"

    @property
    def think_seconds(self) -> float:
        """One in four is thought about for a while, so that some runs are lost before anything of them is shown."""
        return 0.8 if zlib.crc32(self.marker.encode()) % 4 == 0 else 0.0

    @property
    def answer(self) -> str:
        return "".join(f"{self.marker}.{number} " for number in range(self.words))


class ChaosModel:
    """Serve `app`. `foreign` are markers that a model saw and should not have."""

    def __init__(self) -> None:
        self.foreign: list[str] = []
        self.calls = 0

    @property
    def app(self) -> web.Application:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    async def _complete(self, http: web.Request) -> web.StreamResponse:
        self.calls += 1
        body = await http.json()
        messages = body["messages"]
        question = _question(messages)
        self._look_for_strangers(question, messages)
        tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
        await asyncio.sleep(question.think_seconds)
        if http.transport is None:  # It was not waited for.
            raise web.HTTPRequestTimeout
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await _send(response, {"role": "assistant", "content": ""})
        add = next((name for name in tools if name.endswith("add")), None)
        if question.uses_tool and add and messages[-1]["role"] != "tool":
            await _send(response, _call(add, {"a": 1, "b": 2}), "tool_calls")
        elif signal := next((name for name in tools if "conversational" in name), None):
            await _send(response, _call(signal, {}), "tool_calls")
        else:
            for number in range(question.words):
                await _send(response, {"content": f"{question.marker}.{number} "})
                await asyncio.sleep(WORD_SECONDS)
            await _send(response, {}, "stop")
        await response.write(b"data: [DONE]\n\n")
        return response

    def _look_for_strangers(self, question: Question, messages: list[dict[str, Any]]) -> None:
        ours = question.marker.rpartition("-")[0]
        self.foreign += {found[0] for found in _MARKER.finditer(json.dumps(messages)) if found[1] != ours}


def question_in(text: str) -> Question | None:
    found = _ASKED.search(text)
    return Question(found[1], int(found[2]), found[3] == "1") if found else None


def _question(messages: list[dict[str, Any]]) -> Question:
    for message in reversed(messages):
        if message["role"] == "user" and (question := question_in(json.dumps(message["content"]))):
            return question
    raise web.HTTPBadRequest(text="no question")


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}


async def _send(response: web.StreamResponse, delta: dict[str, Any], finish_reason: str | None = None) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "chaos", "choices": [choice]}
    await response.write(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
