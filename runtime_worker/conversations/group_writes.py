"""Writes of concurrent runs, sent together.

A command costs about as much whether it carries one document or ten, and a chat writes up to four times per run. So the
first write to a collection goes out at once, and whatever comes while it is on its way goes out as the next command.
Alone, a write waits for nothing; under load, many share one round trip and one journal flush.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from runtime_worker.conversations.mongo_line import failure
from runtime_worker.conversations.mongo_lines import MongoLines, Row

MAX_BATCH = 500
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Of a batch before its last write: with one as large as can be it is below what a message may have."""


class Insert(NamedTuple):
    row: Row

    def as_row(self) -> Row:
        return self.row


class Update(NamedTuple):
    """Of the one document that `query` finds; `upsert`: made if there is none."""

    query: Row
    change: Row
    upsert: bool = False

    def as_row(self) -> Row:
        return {"q": self.query, "u": self.change, "upsert": self.upsert}


Write = Insert | Update
_COMMANDS: dict[type[Write], tuple[str, str]] = {Insert: ("insert", "documents"), Update: ("update", "updates")}
"""Of each kind its command, and what that calls the rows."""


class Place(NamedTuple):
    """Where something is written; `is_early`: it counts as written as soon as the primary has it."""

    database: str
    collection: str
    is_early: bool = False


class _Waiting(NamedTuple):
    write: Write
    encoded: bytes
    done: "asyncio.Future[None]"


class GroupWrites:
    """One queue per place; a queue that runs dry is forgotten."""

    def __init__(self, lines: MongoLines, concern: Row) -> None:
        """`concern`: who has to have a write before it counts as written; the server's own rule where it is empty."""
        self._lines = lines
        self._concern = concern
        self._queues: dict[Place, list[_Waiting]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    async def write(self, place: Place, write: Write) -> None:
        """Returns when the write is acknowledged. Raises what the driver raises for it, DuplicateKeyError included.

        Cancelling the caller does not take the write back.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(write, self._lines.encoded(write.as_row()), done)
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = []
            sender = asyncio.create_task(self._send(place, queue))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        queue.append(waiting)
        await done

    async def _send(self, place: Place, queue: list[_Waiting]) -> None:
        while queue:
            count = _next_batch(queue)
            batch, queue[:] = queue[:count], queue[count:]
            for kind in _COMMANDS:
                if alike := [waiting for waiting in batch if isinstance(waiting.write, kind)]:
                    await self._send_alike(place, kind, alike)
        del self._queues[place]

    async def _send_alike(self, place: Place, kind: type[Write], batch: Sequence[_Waiting]) -> None:
        name, rows = _COMMANDS[kind]
        command: Row = {name: place.collection, "ordered": False}
        if place.is_early:
            command["writeConcern"] = {"w": 1}
        elif self._concern:
            command["writeConcern"] = self._concern
        failures: dict[int, Exception] = {}
        others: Exception | None = None
        try:
            answer = await self._lines.write(place.database, command, (rows, [each.encoded for each in batch]))
            failures = {found["index"]: failure(found) for found in answer.get("writeErrors", ())}
            if unconfirmed := answer.get("writeConcernError"):
                # Written, but not confirmed by those who should have it: nobody may be told that it is safe.
                others = failure(unconfirmed)
        except Exception as error:  # Handed to everyone who waits; this task itself has nobody to tell.
            others = error
        for index, waiting in enumerate(batch):
            if waiting.done.done():
                continue
            if problem := failures.get(index, others):
                waiting.done.set_exception(problem)
            else:
                waiting.done.set_result(None)


def _next_batch(queue: Sequence[_Waiting]) -> int:
    size = 0
    for count, waiting in enumerate(queue[:MAX_BATCH]):
        if size > MAX_BATCH_BYTES:
            return count
        size += len(waiting.encoded)
    return min(len(queue), MAX_BATCH)
