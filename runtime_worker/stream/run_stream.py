"""What one run tells, on its way to the client: a synchronous sink for the engine, chunks of bytes for the response.

This is the hot path: a token costs one encode, one append and at most one wake-up. Events that came while the socket
was busy leave in one chunk. Only bytes that nobody has taken yet are kept; once no client listens, none are made.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.stream.sse import HEARTBEAT, EventEncoder


class RunStream:
    """Implements `EventSink`. `is_followed` says whether a client reads the events, or only the answer is kept."""

    def __init__(self, run_id: UUID, *, is_followed: bool) -> None:
        self._encoder = EventEncoder(run_id)
        self._is_followed = is_followed
        self._has_ended = False
        self._seq = 0
        self._pending: list[bytes] = []
        self._fragments: list[str] = []
        self._open_agents: list[tuple[str, str]] = []
        self._open_tools: dict[str, str] = {}
        self._waiter: asyncio.Future[None] | None = None

    @property
    def last_seq(self) -> int:
        return self._seq

    @property
    def text(self) -> str:
        """The visible answer so far."""
        return "".join(self._fragments)

    # --- what an engine tells ---

    def agent_start(self, agent: str, node: str) -> None:
        if not self._has_ended:
            self._open_agents.append((agent, node))
            self._emit("agent_start", {"agent": agent, "node": node, "timestamp": datetime.now(UTC)})

    def agent_end(self, agent: str, node: str) -> None:
        if not self._has_ended and (agent, node) in self._open_agents:
            self._open_agents.remove((agent, node))
            self._emit("agent_end", {"agent": agent, "node": node, "timestamp": datetime.now(UTC)})

    def tool_start(self, tool: str, call_id: str, args: Mapping[str, Any]) -> None:
        if not self._has_ended:
            self._open_tools[call_id] = tool
            self._emit("tool_start", {"tool": tool, "call_id": call_id, "args": args})

    def tool_end(
        self, tool: str, call_id: str, *, duration_ms: int, result: Any = None, error: str | None = None
    ) -> None:
        if not self._has_ended:
            self._open_tools.pop(call_id, None)
            outcome = {"result": result} if error is None else {"error": error}
            self._emit("tool_end", {"tool": tool, "call_id": call_id, **outcome, "duration_ms": duration_ms})

    def message(self, content: str, node: str) -> None:
        if self._has_ended or not content:
            return
        self._seq = seq = self._seq + 1
        self._fragments.append(content)
        if self._is_followed:
            self._pending.append(self._encoder.message(seq, content, node))
            if self._waiter is not None:
                self._wake()

    def suggestion(self, content: str) -> None:
        if not self._has_ended:
            self._emit("suggestion", {"content": content})

    # --- what the turn tells ---

    def metadata(self, data: Mapping[str, Any]) -> None:
        self._emit("metadata", data)

    def close_open(self, reason: str) -> None:
        """End what a run that was stopped left open, innermost first, so that every start has its end."""
        for call_id, tool in list(self._open_tools.items()):
            self.tool_end(tool, call_id, duration_ms=0, error=reason)
        for agent, node in reversed(self._open_agents[:]):
            self.agent_end(agent, node)

    def end(self, name: str, data: Mapping[str, Any]) -> None:
        """The last event: a final `metadata` or an `error`. Whatever an engine still says afterwards is not heard."""
        if not self._has_ended:
            self._emit(name, data)
            self._has_ended = True
            self._wake()

    # --- what the response takes ---

    async def next_chunk(self) -> bytes:
        """Everything that is waiting, as soon as there is something; empty when the stream is over."""
        if not self._pending and not self._has_ended and self._is_followed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        pending = self._pending
        if len(pending) == 1:
            return pending.pop()
        self._pending = []
        return b"".join(pending)

    def heartbeat(self) -> None:
        if self._is_followed and not self._pending and not self._has_ended:
            self._pending.append(HEARTBEAT)
            self._wake()

    def unfollow(self) -> None:
        """The client is gone: make and keep no more bytes."""
        self._is_followed = False
        self._pending = []
        self._wake()

    def _emit(self, name: str, data: Mapping[str, Any]) -> None:
        self._seq += 1
        if self._is_followed:
            self._pending.append(self._encode(name, data))
            self._wake()

    def _encode(self, name: str, data: Mapping[str, Any]) -> bytes:
        try:
            return self._encoder.event(self._seq, name, data)
        except (TypeError, ValueError, msgspec.MsgspecError):
            # A tool may hand over what JSON cannot say (a NaN key, a lone surrogate); that must not fail the run.
            return self._encoder.event(self._seq, name, {key: repr(value) for key, value in data.items()})

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
