"""Writes of concurrent runs, sent together.

A command costs the driver 0.3 ms of CPU whether it carries one document or ten, and a chat writes four times per run.
So the first write to a collection goes out at once, and whatever comes while it is on its way goes out as the next
command. Alone, a write waits for nothing and goes the driver's shorter way for one document; under load, many share one
round trip and one journal flush.
"""

import asyncio
from typing import Any, NamedTuple

from pymongo import InsertOne, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

MAX_BATCH = 500

Collection = AsyncCollection[dict[str, Any]]


class Insert(NamedTuple):
    row: dict[str, Any]

    async def alone(self, collection: Collection) -> None:
        await collection.insert_one(self.row)

    def among_others(self) -> InsertOne[dict[str, Any]]:
        return InsertOne(self.row)


class Update(NamedTuple):
    """Of the one document that `query` finds; `upsert`: made if there is none."""

    query: dict[str, Any]
    change: dict[str, Any]
    upsert: bool = False

    async def alone(self, collection: Collection) -> None:
        await collection.update_one(self.query, self.change, upsert=self.upsert)

    def among_others(self) -> UpdateOne:
        return UpdateOne(self.query, self.change, upsert=self.upsert)


Write = Insert | Update
_Queue = tuple[str, int | str | None]

_DUPLICATE_KEY = 11000


class GroupWrites:
    """One queue per collection and write concern; a queue that runs dry is forgotten."""

    def __init__(self) -> None:
        self._queues: dict[_Queue, list[tuple[Write, asyncio.Future[None]]]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    async def write(self, collection: Collection, write: Write) -> None:
        """Returns when the write is acknowledged. Raises what the driver raises for it, DuplicateKeyError included.

        Cancelling the caller does not take the write back.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        key = collection.full_name, collection.write_concern.document.get("w")
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = []
            sender = asyncio.create_task(self._send(key, collection, queue))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        queue.append((write, done))
        await done

    async def _send(self, key: _Queue, collection: Collection, queue: list[tuple[Write, asyncio.Future[None]]]) -> None:
        while queue:
            batch, queue[:] = queue[:MAX_BATCH], queue[MAX_BATCH:]
            failures: dict[int, Exception] = {}
            try:
                if len(batch) == 1:
                    await batch[0][0].alone(collection)
                else:
                    await collection.bulk_write([write.among_others() for write, _ in batch], ordered=False)
            except BulkWriteError as error:
                failures = {found["index"]: _failure(found) for found in error.details.get("writeErrors", [])}
                if not failures:
                    # Written, but not confirmed by a majority: nobody may be told that it is safe.
                    failures = dict.fromkeys(range(len(batch)), error)
            except Exception as error:  # Handed to everyone who waits; this task itself has nobody to tell.
                failures = dict.fromkeys(range(len(batch)), error)
            for index, (_, done) in enumerate(batch):
                if not done.done():
                    if index in failures:
                        done.set_exception(failures[index])
                    else:
                        done.set_result(None)
        del self._queues[key]


def _failure(found: dict[str, Any]) -> OperationFailure:
    kind = DuplicateKeyError if found.get("code") == _DUPLICATE_KEY else OperationFailure
    return kind(found.get("errmsg", "write failed"), found.get("code"), found)
