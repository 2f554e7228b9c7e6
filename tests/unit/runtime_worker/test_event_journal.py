import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import cast

import pytest
from redis.asyncio import Redis

from runtime_worker.stream.journal import WINDOW_SECONDS, WRITTEN_AT_ONCE, EventJournal
from shared.ids import new_id


class Client:
    """Is told of what was written."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self.run_id = new_id()
        self.tell = tell

    def cover(self) -> None:
        raise AssertionError("there is no spool here")

    def cut(self) -> None:
        raise AssertionError("nobody else has the run")


class Writing:
    """A journal, on a clock that only moves when told to, and which of what was told clients have got by when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        # Without a connection: what it writes is kept, and shown as always.
        self._journal = EventJournal(cast("Redis", None), keep_seconds=1)
        self._log = self._journal.begin(new_id(), new_id())
        self._log.open()
        self._numbers: Iterator[int] = count(1)
        self.shown: list[int] = []
        self.writes = 0

    async def tell(self, *, after_seconds: float = 0.0) -> None:
        self.now += after_seconds
        number = next(self._numbers)
        self._log.add(number, b"event")
        self._log.before_clients(Client(lambda: self.shown.append(number)))
        await self.pass_time(0.0)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds
        before = len(self.shown)
        # One round for what became due, one for what it calls.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.writes += len(self.shown) > before


@pytest.fixture
async def writing(monkeypatch: pytest.MonkeyPatch) -> Writing:
    return Writing(monkeypatch)


async def test_what_a_run_begins_with_does_not_keep_its_first_token_waiting(writing: Writing) -> None:
    await writing.tell()
    await writing.tell(after_seconds=WINDOW_SECONDS / 4)
    assert writing.shown == [1, 2]


async def test_dense_events_share_a_write_in_each_window(writing: Writing) -> None:
    windows = 50
    for _ in range(windows * 10):
        await writing.tell(after_seconds=WINDOW_SECONDS / 10)
    await writing.pass_time(WINDOW_SECONDS)
    assert len(writing.shown) == windows * 10
    assert writing.writes <= windows + WRITTEN_AT_ONCE


async def test_a_quiet_moment_among_dense_events_is_made_up_for_once(writing: Writing) -> None:
    for _ in range(100):
        await writing.tell(after_seconds=WINDOW_SECONDS / 10)
    await writing.pass_time(WINDOW_SECONDS)
    writing.writes = 0
    await writing.tell(after_seconds=1.0)
    for _ in range(99):
        await writing.tell(after_seconds=WINDOW_SECONDS / 100)
    await writing.pass_time(WINDOW_SECONDS)
    assert writing.writes <= WRITTEN_AT_ONCE + 2
