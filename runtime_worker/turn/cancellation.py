"""Cancelling a run from any worker: a message to all of them, and a key for whoever misses the message."""

import asyncio
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.turn.run import RunTable
from shared.ids import parse_id
from shared.logging import get_logger

CHANNEL = "run_cancel"
KEY_SECONDS = 600
CHECK_SECONDS = 3.0
RETRY_SECONDS = 1.0

log = get_logger(__name__)


class Cancellations:
    """Asks other workers to cancel, and hears what they ask."""

    def __init__(self, redis: "Redis", table: RunTable) -> None:
        self._redis = redis
        self._table = table

    async def ask(self, run_id: UUID) -> None:
        """Have whichever worker drives the run cancel it."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(cancel_key(run_id), b"1", ex=KEY_SECONDS)
            pipe.publish(CHANNEL, str(run_id))
            await pipe.execute()

    async def run(self) -> None:
        """Listen until cancelled; without Redis, try again."""
        while True:
            try:
                await self._listen()
            except RedisError as error:
                log.warning("cancellations_unheard", reason=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(CHANNEL)
            while True:
                # Also after every (re)connection: what was asked while nobody listened is in the keys.
                await self._check_keys()
                message = await channel.get_message(timeout=CHECK_SECONDS)
                if message is not None:
                    self._cancel(message["data"])

    async def _check_keys(self) -> None:
        runs = self._table.all()
        if not runs:
            return
        found = await self._redis.mget([cancel_key(run.run_id) for run in runs])
        for run, asked in zip(runs, found, strict=True):
            if asked is not None:
                run.cancel()

    def _cancel(self, data: bytes) -> None:
        run_id = parse_id(data.decode(errors="replace"))
        if run_id is not None and (run := self._table.find(run_id)):
            run.cancel()


def cancel_key(run_id: UUID) -> str:
    return f"run_cancel:{run_id}"
