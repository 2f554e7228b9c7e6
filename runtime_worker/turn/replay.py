"""Showing a run's events to somebody who was not there, or not all the time: first what was told, then what comes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from runtime_worker.conversations.base import RunRecord
from runtime_worker.stream.run_log import events_key
from runtime_worker.stream.sse import HEARTBEAT, EventEncoder
from runtime_worker.stream.story import Entry, entry_of, read_story
from runtime_worker.turn.endings import last_event
from runtime_worker.turn.run_lookup import RunLookup
from shared.clock import Clock
from shared.errors import RunEventsGone, WorkerLost

LOOK_SECONDS = 1.0
"""How long to wait for news before looking whether any can come at all."""

LATE_SECONDS = 8.0
"""How long after a run's end its last events may come: its worker may have to find Redis again to write them."""

PAGE = 200
_ENTRIES = 5


class RunReplays:
    """Reads what workers journal; which of them drives the run does not matter."""

    def __init__(
        self, redis: "Redis", runs: RunLookup, clock: Clock, *, keep_seconds: float, heartbeat_seconds: float
    ) -> None:
        self._redis = redis
        self._runs = runs
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._is_closed = False

    def close(self) -> None:
        """This worker leaves: every stream ends within `LOOK_SECONDS`, and goes on wherever its client asks next."""
        self._is_closed = True

    async def open(self, org_id: UUID, run_id: UUID, *, user_id: UUID | None, after_seq: int) -> AsyncIterator[bytes]:
        """The events behind number `after_seq`, to the last one.

        Raises NotFound, and RunEventsGone when the run ended too long ago or never had that many events.
        """
        record = await self._runs.get(org_id, run_id, user_id=user_id)
        if _has_ended(record):
            newest = await self._newest(run_id)
            # Of one that has just ended they may be on their way still: Redis was away, and its worker keeps them.
            is_past = newest is None and self._ended_long_ago(record)
            if is_past or after_seq > max(newest.events[-1].seq if newest else 0, record.last_seq):
                raise RunEventsGone
        return self._events(org_id, run_id, after_seq)

    async def is_last(self, run_id: UUID, seq: int) -> bool:
        """Whether a run's stream ends with its event number `seq`."""
        newest = await self._newest(run_id)
        return newest is not None and newest.is_last and newest.events[-1].seq == seq

    async def end_of(self, org_id: UUID, run_id: UUID, *, user_id: UUID | None) -> tuple[RunRecord, str]:
        """Wait until a run has ended; what it ended as, and its answer. Raises what `open` raises, and WorkerLost when
        this worker leaves before that."""
        async for _ in await self.open(org_id, run_id, user_id=user_id, after_seq=0):
            pass
        record = await self._runs.get(org_id, run_id, user_id=user_id)
        if self._is_closed and not _has_ended(record):
            raise WorkerLost
        story = await read_story(self._redis, run_id)
        return record, story.text if story.is_over else await self._runs.answer(org_id, record)

    async def _events(self, org_id: UUID, run_id: UUID, after_seq: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        # Ids are `<epoch>-<seq>`. Everything of the first epoch up to the number is skipped by it; of a later one,
        # which few runs have, each event's own number tells.
        position, seq, told_at = f"1-{after_seq}", after_seq, loop.time()
        ended_at: float | None = None
        has_hole = False
        while not self._is_closed:
            entries = [] if has_hole else await self._read(run_id, position)
            for entry in entries:
                position = entry.entry_id
                news = [event for event in entry.events if event.seq > seq]
                if news and news[0].seq != seq + 1:
                    # Redis has lost some; what comes behind them has to wait until all can be told from the store.
                    has_hole = True
                    break
                if news:
                    seq, told_at = news[-1].seq, loop.time()
                    yield b"".join([event.raw for event in news])
                if entry.is_last:
                    return
            if entries and not has_hole:
                continue
            record = await self._runs.get(org_id, run_id, user_id=None)
            ended_at = (ended_at or loop.time()) if _has_ended(record) else None
            if ended_at is not None and (has_hole or loop.time() - ended_at > LATE_SECONDS):
                yield await self._rest(record, org_id, seq)
                return
            if has_hole:
                await asyncio.sleep(LOOK_SECONDS)
            if loop.time() - told_at >= self._heartbeat_seconds:
                told_at = loop.time()
                yield HEARTBEAT

    async def _rest(self, record: RunRecord, org_id: UUID, seq: int) -> bytes:
        """What the store has of an ended run behind event `seq`, when its last events are not in Redis."""
        story = await read_story(self._redis, record.run_id)
        answer = await self._runs.answer(org_id, record)
        encoder = EventEncoder(record.run_id)
        if seq != story.last_seq or not answer.startswith(story.text):
            gone = RunEventsGone()
            return encoder.event(seq + 1, "error", {"code": gone.code, "message": gone.detail, "retryable": False})
        said = encoder.message(seq + 1, rest, story.last_node) if (rest := answer[len(story.text) :]) else b""
        name, data = last_event(record, saved=True)
        return said + encoder.event(seq + 2 if said else seq + 1, name, msgspec.to_builtins(data))

    def _ended_long_ago(self, record: RunRecord) -> bool:
        ended_at = record.ended_at or record.started_at
        return (self._clock.now() - ended_at).total_seconds() > self._keep_seconds

    async def _newest(self, run_id: UUID) -> Entry | None:
        """The last entry with events that is kept; None when there is none."""
        # What a run's last workers wrote begins with an entry that has no event.
        rows = cast("Sequence[Any]", await self._redis.xrevrange(events_key(run_id), count=_ENTRIES))
        return next((entry for row in rows if (entry := entry_of(row)).events), None)

    async def _read(self, run_id: UUID, position: str) -> list[Entry]:
        """What comes within `LOOK_SECONDS`."""
        wait_ms = round(LOOK_SECONDS * 1000)
        answer = await self._redis.xread({events_key(run_id): position}, count=PAGE, block=wait_ms)
        return [entry_of(row) for _, rows in cast("Sequence[Any]", answer or ()) for row in rows]


def _has_ended(record: RunRecord) -> bool:
    return record.status not in ("queued", "running")
