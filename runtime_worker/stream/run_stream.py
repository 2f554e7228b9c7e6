"""What one run tells, on its way to the client: a synchronous sink for the engine, chunks of bytes for the response.

This is the hot path: a token costs one encode, two appends and at most one callback. Events that came in one read of
the model's socket, or while the client's was busy, leave in one chunk. Only bytes that nobody has taken yet are kept.
Every event goes into the journal, whether a client listens or not: one may come, at this worker or at another.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.stream.dialect import Dialect
from runtime_worker.stream.run_log import RunLog
from runtime_worker.stream.sse import HEARTBEAT, EventEncoder
from runtime_worker.stream.story import Story

MAX_WAITING_BYTES = 256 * 1024
"""So much is kept for a client that does not read, beside what the server and the kernel hold: half a minute of the
fastest model. Then it is let go of, and may come back for the rest, which the journal has."""


class RunStream:
    """Implements `EventSink`. `is_followed` says whether a client reads the events as they come.

    A run that another worker began goes on `after` what that one told of it. A client that speaks another protocol is
    told in its `dialect`; the journal keeps the events as they are.
    """

    def __init__(
        self,
        run_id: UUID,
        *,
        is_followed: bool,
        log: RunLog | None = None,
        after: Story | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        self.run_id = run_id
        self._encoder = EventEncoder(run_id)
        self._dialect = dialect
        self._is_followed = is_followed
        self._log = log
        self._has_ended = False
        self._is_told_elsewhere = False
        self.is_cut = False
        self._seq = after.last_seq if after else 0
        self._pending: list[bytes] = []
        self._fragments: list[str] = [after.text] if after else []
        self._open_agents: list[tuple[str, str]] = list(after.open_agents) if after else []
        self._open_tools: dict[str, str] = dict(after.open_tools) if after else {}
        self.tool_calls = self.failed_tool_calls = 0
        self._waiting_bytes = 0
        self._drop_if_slow: Callable[[], bool] = lambda: False
        self._tell_soon: Callable[[], object] | None = None
        self._is_told = False
        self._covered: int | None = None
        self.tell: Callable[[], object] = lambda: None
        self._is_recorded = asyncio.Event()

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
            self.tool_calls += 1
            self.failed_tool_calls += error is not None
            outcome = {"result": result} if error is None else {"error": error}
            self._emit("tool_end", {"tool": tool, "call_id": call_id, **outcome, "duration_ms": duration_ms})

    def message(self, content: str, node: str) -> None:
        if self._has_ended or not content:
            return
        self._seq = seq = self._seq + 1
        self._fragments.append(content)
        event = self._encoder.message(seq, content, node)
        if self._log is not None:
            self._log.add(seq, event)
        if self._is_followed:
            told = event if self._dialect is None else self._dialect.message(content)
            self._pending.append(told)
            self._waiting_bytes = waiting = self._waiting_bytes + len(told)
            if waiting > MAX_WAITING_BYTES and self._drop_if_slow():
                self.unfollow()
            elif not self._is_told:
                self._tell()

    def suggestion(self, content: str) -> None:
        if not self._has_ended:
            self._emit("suggestion", {"content": content})

    async def recorded(self) -> None:
        await self._is_recorded.wait()

    # --- what the turn tells ---

    def record(self) -> None:
        """The turn is stored: tools may be called, and events written."""
        self._is_recorded.set()
        if self._log is not None:
            self._log.open()

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
            self._emit(name, data, is_last=True)
            self._has_ended = True
            self._tell()

    def cut(self) -> None:
        """The run goes on elsewhere: nothing more of it is written or shown here, nor what is on its way. Whoever
        listens has to ask for the rest; how it ends is told there."""
        self._log = None
        self._has_ended = self.is_cut = True
        self._pending = []
        self._tell()

    def hand_over(self, name: str, data: Mapping[str, Any]) -> None:
        """Another worker goes on with the run. Who listens here gets what that one tells, through `pass_on`, until
        `close`; who is told in another protocol has no way to go on, and this last event."""
        self._log = None
        if self._dialect is not None:
            self.end(name, data)
        else:
            self._has_ended = self._is_told_elsewhere = True

    def pass_on(self, events: bytes) -> None:
        """Whole events of the run as its next worker told them."""
        if self._is_told_elsewhere:
            self._queue(events)

    def close(self) -> None:
        """Nothing will follow here, whether the last event was told or not: the rest can be had from any worker."""
        self._has_ended, self._is_told_elsewhere = True, False
        self._tell()

    # --- what the response takes ---

    def follow(self, on_news: Callable[[], None], drop_if_slow: Callable[[], bool] = lambda: False) -> None:
        """Have the loop call `on_news` when there is something to take, or the stream is over. Once per `take`: what
        comes in between is taken together.

        `drop_if_slow` is called when more waits than is kept for anybody who does not read; whether that is so, and
        nothing more has to come.
        """
        self._drop_if_slow = drop_if_slow
        self.tell = on_news
        if self._log is not None:
            self._tell_soon = partial(self._log.before_clients, self)
        else:
            self._tell_soon = partial(asyncio.get_running_loop().call_soon, on_news)
        if self._pending or self.is_over:
            self._tell()

    def cover(self) -> None:
        """What is waiting now, and nothing of what comes, may be taken when `tell` is called next."""
        self._covered = len(self._pending)

    def tell_again(self) -> None:
        """Whoever was told could not take it then."""
        self._is_told = False
        if self._pending or self.is_over or self.is_cut:
            self._tell()

    def take(self) -> bytes:
        """Everything that is waiting and may be shown; empty when nothing is."""
        self._is_told = False
        if self._covered is not None:
            return self._take_covered()
        self._waiting_bytes = 0
        pending = self._pending
        if len(pending) == 1:
            return pending.pop()
        self._pending = []
        return b"".join(pending)

    def _take_covered(self) -> bytes:
        covered, self._covered = self._covered, None
        taken, self._pending = self._pending[:covered], self._pending[covered:]
        self._waiting_bytes = sum(map(len, self._pending))
        if self._pending:
            self._tell()
        return b"".join(taken)

    @property
    def waiting_bytes(self) -> int:
        """What is kept for the client; for one that does not read never more than `MAX_WAITING_BYTES`."""
        return self._waiting_bytes

    @property
    def is_over(self) -> bool:
        """Whether all was taken and nothing will follow."""
        is_ended = self._has_ended and not self._is_told_elsewhere
        return not self._pending and (is_ended or not self._is_followed)

    def heartbeat(self) -> None:
        if self._is_followed and not self._pending and not self._has_ended:
            self._queue(HEARTBEAT)

    def unfollow(self) -> None:
        """The client is gone: keep no more bytes for it."""
        self._is_followed = False
        self._pending = []
        self._waiting_bytes = 0
        self._tell()

    def _emit(self, name: str, data: Mapping[str, Any], *, is_last: bool = False) -> None:
        self._seq += 1
        event = self._encode(name, data)
        if self._log is not None:
            self._log.add(self._seq, event, is_last=is_last)
        if self._is_followed and (told := event if self._dialect is None else self._dialect.event(name, data)):
            self._queue(told)

    def _queue(self, events: bytes) -> None:
        if self._is_followed:
            self._pending.append(events)
            self._waiting_bytes += len(events)
            if self._waiting_bytes > MAX_WAITING_BYTES and self._drop_if_slow():
                self.unfollow()
            else:
                self._tell()

    def _encode(self, name: str, data: Mapping[str, Any]) -> bytes:
        try:
            return self._encoder.event(self._seq, name, data)
        except (TypeError, ValueError, msgspec.MsgspecError):
            # A tool may hand over what JSON cannot say (a NaN key, a lone surrogate); that must not fail the run.
            return self._encoder.event(self._seq, name, {key: repr(value) for key, value in data.items()})

    def _tell(self) -> None:
        # By the loop rather than at once: whatever else the same read of the model's socket brings comes along, and
        # nothing of the client's side runs inside an engine.
        if self._tell_soon is not None and not self._is_told:
            self._is_told = True
            self._tell_soon()
