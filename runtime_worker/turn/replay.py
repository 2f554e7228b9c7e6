"""Showing a run's events to somebody who was not there, or not all the time: first what was told, then what comes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from runtime_worker.conversations.base import RunRecord
from runtime_worker.stream.journal import events_key
from runtime_worker.stream.sse import HEARTBEAT, EventEncoder
from runtime_worker.stream.story import Entry, entry_of, read_story
from runtime_worker.turn.endings import last_event
from runtime_worker.turn.run_lookup import RunLookup
from shared.errors import RunEventsGone, WorkerLost

LOOK_SECONDS = 1.0
"""How long to wait for news before looking whether any can come at all."""

PAGE = 200


class RunReplays:
    """Reads what workers journal; which of them drives the run does not matter."""

    def __init__(self, redis: "Redis", runs: RunLookup, *, heartbeat_seconds: float) -> None:
        self._redis = redis
        self._runs = runs
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
        has_ended = record.status not in ("queued", "running")
        if has_ended and (after_seq > record.last_seq or not await self._redis.exists(events_key(run_id))):
            raise RunEventsGone
        return self._events(org_id, run_id, after_seq)

    async def end_of(self, org_id: UUID, run_id: UUID, *, user_id: UUID | None) -> tuple[RunRecord, str]:
        """Wait until a run has ended; what it ended as, and its answer. Raises what `open` raises, and WorkerLost when
        this worker leaves before that."""
        async for _ in await self.open(org_id, run_id, user_id=user_id, after_seq=0):
            pass
        record = await self._runs.get(org_id, run_id, user_id=user_id)
        if self._is_closed and record.status in ("queued", "running"):
            raise WorkerLost
        return record, (await read_story(self._redis, run_id)).text

    async def _events(self, org_id: UUID, run_id: UUID, after_seq: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        # Ids are `<epoch>-<seq>`. Everything of the first epoch up to the number is skipped by it; of a later one,
        # which few runs have, each event's own number tells.
        position, seq, told_at = f"1-{after_seq}", after_seq, loop.time()
        is_ending = False
        while not self._is_closed:
            entries = await self._read(run_id, position)
            for entry in entries:
                position = entry.entry_id
                if news := b"".join(event.raw for event in entry.events if event.seq > seq):
                    seq, told_at = entry.events[-1].seq, loop.time()
                    yield news
                if entry.is_last:
                    return
            if entries:
                continue
            record = await self._runs.get(org_id, run_id, user_id=None)
            has_ended = record.status not in ("queued", "running")
            if has_ended and is_ending:
                # Stored, and its last events never reached Redis, which was away.
                yield _end_of(record, max(record.last_seq, seq + 1))
                return
            is_ending = has_ended
            if loop.time() - told_at >= self._heartbeat_seconds:
                told_at = loop.time()
                yield HEARTBEAT

    async def _read(self, run_id: UUID, position: str) -> list[Entry]:
        """What comes within `LOOK_SECONDS`."""
        wait_ms = round(LOOK_SECONDS * 1000)
        answer = await self._redis.xread({events_key(run_id): position}, count=PAGE, block=wait_ms)
        return [entry_of(row) for _, rows in cast("Sequence[Any]", answer or ()) for row in rows]


def _end_of(record: RunRecord, seq: int) -> bytes:
    name, data = last_event(record, saved=True)
    return EventEncoder(record.run_id).event(seq, name, msgspec.to_builtins(data))
