"""One plugin host from its start to its end: requests side by side, deadlines, cancellation, the last resort."""

import asyncio
import itertools
from collections.abc import Callable, Collection
from typing import Any, cast

from runtime_worker.plugins.launching import HostFiles, HostLauncher, Surroundings, end_process
from runtime_worker.plugins.output import LineAllowance, Log, PluginOutput
from shared.errors import PluginLoadFailed
from shared.plugin_host.messages import (
    Answer,
    BadFrame,
    Cancel,
    Frames,
    Heard,
    Hello,
    NotStarted,
    Reply,
    Request,
    Start,
    Started,
    Stop,
    Told,
    ToolOutcome,
    framed,
    replies,
)

STOP_SECONDS = 5.0
REACT_SECONDS = 1.0
"""How long a host may take to hear of a cancellation. One that takes longer is stuck altogether, and is ended."""
OBEY_SECONDS = 2.0
"""How long a cancelled call may go on. Then its host is replaced, since only a process can be made to stop."""
MAX_UNSENT_BYTES = 16 * 1024 * 1024
_TOLD_EVENTS = (
    "tool_failed",
    "tool_arguments_failed",
    "stream_filter_failed",
    "load_anchor_failed",
    "scope_rules_failed",
    "plugin_cleanup_failed",
)
_TOLD_FIELDS = ("tool", "error", "place")
_MAX_FIELD_CHARS = 300


class HostLost(Exception):
    """The host ended while, or before, it was asked. The text says why, for the log."""


class HostProcess(asyncio.Protocol):
    """Talks to one child. Nothing it says is believed to be more than a tenant's word.

    `on_end` is called once, as soon as the host cannot be asked any more, with the reason and whether that was a crash.
    """

    def __init__(self, log: Log, on_end: Callable[["HostProcess", str, bool], None]) -> None:
        self._log = log
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._allowance = LineAllowance(self._loop.time)
        self._frames = Frames(replies)
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[ToolOutcome]] = {}
        self._overdue: dict[int, asyncio.TimerHandle] = {}
        self._unheard: dict[int, asyncio.TimerHandle] = {}
        self._word = asyncio.Event()
        self._word.set()
        self._hello: asyncio.Future[Hello] = self._loop.create_future()
        self._started: asyncio.Future[Started | NotStarted] = self._loop.create_future()
        self._files: HostFiles | None = None
        self._transport: asyncio.Transport | None = None
        self._output = PluginOutput(log, self._allowance)
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._reaping: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._end: str | None = None
        self.is_replaced = False
        """Asked no more: one of its calls does not stop. It goes when the others have been answered."""
        self.process_id = 0

    @property
    def is_usable(self) -> bool:
        return self._end is None and not self.is_replaced and not self._is_stopping

    @property
    def active_calls(self) -> int:
        return len(self._pending)

    async def start(
        self, launcher: HostLauncher, surroundings: Surroundings, start: Start, required_walls: Collection[str]
    ) -> Started | NotStarted:
        """Raises HostLost, PluginLoadFailed. Whoever gives up waiting must `kill` it."""
        self._files = files = await launcher.launch(surroundings)
        try:
            await self._loop.create_unix_connection(lambda: self._output, sock=files.output)
            await self._loop.create_unix_connection(lambda: self, sock=files.channel)
        except BaseException:
            self.kill("it could not be connected to")
            raise
        hello = await self._hello
        self.process_id = hello.process_id
        if missing := [wall for wall in hello.missing if wall in required_walls]:
            raise PluginLoadFailed(f"cannot be run on this server, which does not restrict: {', '.join(missing)}")
        self._send(start)
        return await self._started

    async def ask(self, request: Callable[[int], Request], timeout_seconds: float) -> ToolOutcome:
        """The answer. Raises HostLost, TimeoutError, BadFrame for a request that cannot be sent."""
        if not self.is_usable:
            raise HostLost(self._end or "it is being replaced")
        number = next(self._numbers)
        frame = framed(request(number))
        answer: asyncio.Future[ToolOutcome] = self._loop.create_future()
        self._pending[number] = answer
        self._write(frame)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answer
        finally:
            self._pending.pop(number, None)
            if not answer.done() or answer.cancelled():
                self._give_up(number)
            self._leave_if_replaced()

    async def word(self) -> None:
        """Wait while it may be stuck: until it reacts to what it was told last, or is no longer usable."""
        await self._word.wait()

    async def stop(self) -> None:
        """Let the plugin clean up, then end it. Returns when it is gone."""
        if self._end is None and not self._is_stopping:
            self._is_stopping = True
            self._send(Stop())
            self._loop.call_later(STOP_SECONDS, self.kill, "it did not clean up in time")
        await self.ended()

    async def ended(self) -> None:
        """Wait until nothing is left of it."""
        await asyncio.shield(self._gone)

    def kill(self, reason: str, *, is_crash: bool = False) -> None:
        """End it now. Calls that wait for it raise HostLost."""
        if self._end is not None:
            return
        self._end = reason
        lost = HostLost(reason)
        everybody: list[asyncio.Future[Any]] = [*self._pending.values(), self._hello, self._started]
        for waiting in everybody:
            if not waiting.done():
                waiting.set_exception(lost)
                # Not everybody waits for everything; asyncio is not to report the rest as forgotten.
                waiting.exception()
        for timer in (*self._overdue.values(), *self._unheard.values()):
            timer.cancel()
        self._overdue.clear()
        self._unheard.clear()
        self._word.set()
        if self._transport is not None:
            self._transport.abort()
        self._reaping = self._loop.create_task(self._reap(is_crash=is_crash))
        self._on_end(self, reason, is_crash)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked at run time: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                self._handle(message)
        except BadFrame as error:
            self.kill(f"it sent {error}", is_crash=True)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_stopping:
            self.kill("stopped")
        else:
            self.kill("it ended by itself", is_crash=True)

    def _handle(self, message: Reply) -> None:
        match message:
            case Answer():
                self._answered(message)
            case Heard():
                self._heard(message.id)
            case Hello():
                _settle(self._hello, message)
            case Started() | NotStarted():
                _settle(self._started, message)
            case Told():
                self._tell(message)

    def _answered(self, answer: Answer) -> None:
        if (waiting := self._pending.get(answer.id)) is not None:
            _settle(waiting, answer.outcome)
        elif (timer := self._overdue.pop(answer.id, None)) is not None:
            timer.cancel()

    def _give_up(self, number: int) -> None:
        """Nobody waits for this call any more: ask the host to end it, and see that it does."""
        if self._end is not None:
            return
        self._send(Cancel(number))
        self._overdue[number] = self._loop.call_later(OBEY_SECONDS, self._disobeyed, number)
        self._unheard[number] = self._loop.call_later(REACT_SECONDS, self._silent)
        self._word.clear()

    def _heard(self, number: int) -> None:
        if (timer := self._unheard.pop(number, None)) is not None:
            timer.cancel()
        if not self._unheard:
            self._word.set()

    def _silent(self) -> None:
        self.kill("it does not react", is_crash=True)

    def _disobeyed(self, number: int) -> None:
        self._overdue.pop(number, None)
        if not self.is_replaced:
            self.is_replaced = True
            self._log("plugin_host_replaced", reason="a call does not stop")
        self._leave_if_replaced()

    def _leave_if_replaced(self) -> None:
        if self.is_replaced and not self._pending:
            self.kill("a call did not stop")

    def _tell(self, told: Told) -> None:
        if told.event in _TOLD_EVENTS and self._allowance.take():
            fields: dict[str, Any] = {key: told.fields.get(key, "")[:_MAX_FIELD_CHARS] for key in _TOLD_FIELDS}
            self._log(told.event, **fields)

    def _send(self, message: Request) -> None:
        self._write(framed(message))

    def _write(self, frame: bytes) -> None:
        if self._transport is None or self._end is not None:
            return
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.kill("it does not read", is_crash=True)

    async def _reap(self, *, is_crash: bool) -> None:
        try:
            if (files := self._files) is None:
                return
            if self._transport is None:
                files.channel.close()
                files.output.close()
            code = await asyncio.to_thread(end_process, files.process, files.home)
            # What it said last is often why it ended.
            await self._output.finish()
            self._log("plugin_host_ended", reason=self._end, exit_code=code, crashed=is_crash)
        finally:
            _settle(self._gone, None)


def _settle(waiting: "asyncio.Future[Any]", value: Any) -> None:
    # A host may say anything twice.
    if not waiting.done():
        waiting.set_result(value)


async def launched_and_started(
    host: HostProcess,
    launcher: HostLauncher,
    surroundings: Surroundings,
    start: Start,
    *,
    required_walls: Collection[str],
    timeout_seconds: float,
) -> Started:
    """The host's first word about its plugin. Raises PluginLoadFailed, HostLost; then nothing is left of the host."""
    try:
        async with asyncio.timeout(timeout_seconds):
            started = await host.start(launcher, surroundings, start, required_walls)
    except TimeoutError:
        host.kill("it did not start in time")
        raise PluginLoadFailed(f"did not start within {timeout_seconds:g} seconds") from None
    except BadFrame as error:
        host.kill("its settings cannot be sent")
        raise PluginLoadFailed(f"has settings that cannot be sent to it: {error}") from None
    except BaseException:
        host.kill("nobody waits for it any more")
        raise
    if isinstance(started, Started):
        return started
    host.kill("the plugin could not be started")
    if not started.error:
        raise PluginLoadFailed("has no plugin class")
    raise PluginLoadFailed(f"could not be started: it raised {started.error[:100]}")
