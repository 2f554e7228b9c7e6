"""What happens beside a run: it is cancelled, or time passes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.contract.engines.moves import ScenarioModel
from tests.fakes.event_sink import RecordingSink
from tests.fakes.plugin_bundle import FunctionBundle


class MovedTime:
    """A loop's clock that can be put forward: what is due then happens at once, with nobody waiting for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ahead_seconds = 0.0
        self._real = loop.time
        loop.time = self._time  # type: ignore[method-assign]  # asyncio's own loop asks itself for the time

    def pass_by(self, seconds: float) -> None:
        self._ahead_seconds += seconds

    def _time(self) -> float:
        return self._real() + self._ahead_seconds


LOOP_TURNS = 50
"""Enough for whatever is under way in this process to become visible, sockets included, however busy the machine is."""


class WatchedSink(RecordingSink):
    """A sink that can be waited on, of a turn that is on record unless `is_recorded` is cleared."""

    def __init__(self) -> None:
        super().__init__()
        self._told = asyncio.Event()
        self.is_recorded = asyncio.Event()
        self.is_recorded.set()

    async def recorded(self) -> None:
        await self.is_recorded.wait()

    async def until(self, kind: str) -> None:
        """Return once an event of this type was told."""
        while not self.of(kind):
            self._told.clear()
            await self._told.wait()

    def _add(self, event: tuple[object, ...]) -> None:
        super()._add(event)
        self._told.set()


@dataclass
class Stage:
    """What goes on while a run is on its way."""

    running: "asyncio.Task[object]"
    model: ScenarioModel
    sink: WatchedSink
    bundles: Sequence[FunctionBundle]
    time: MovedTime


Moment = Callable[[Stage], Awaitable[object]]
Meanwhile = Callable[[Stage], Awaitable[None]]


def call(number: int) -> Moment:
    """The model was asked for the `number`-th time (1-based) and has not answered."""
    return lambda stage: stage.model.wait_for_calls(number)


def first(kind: str) -> Moment:
    """The first event of a type was told."""
    return lambda stage: stage.sink.until(kind)


def cancelled(at: Moment) -> Meanwhile:
    async def cancel(stage: Stage) -> None:
        await at(stage)
        assert not stage.running.done(), "the run ended before it could be cancelled"
        stage.running.cancel()

    return cancel


def time_passes(seconds: float, *, at: Moment) -> Meanwhile:
    async def pass_by(stage: Stage) -> None:
        await at(stage)
        stage.time.pass_by(seconds)

    return pass_by


def recorded_late(*, after: int) -> Meanwhile:
    """The turn is on record only some time after the model has answered its call number `after`."""

    async def record(stage: Stage) -> None:
        stage.sink.is_recorded.clear()
        calls = await stage.model.wait_for_calls(after)
        await calls[after - 1].answered.wait()
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)
        assert not stage.sink.of("tool_start"), "a tool was called before the turn was on record"
        assert len(stage.model.calls) == after
        stage.sink.is_recorded.set()

    return record
