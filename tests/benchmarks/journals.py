"""What writing every event to Redis costs a token: streams side by side in this process, with and without a journal."""

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
from redis.asyncio import Redis

from deploy.local.valkey import Valkey
from runtime_worker.stream.journal import EventJournal
from runtime_worker.stream.run_stream import RunStream
from shared.ids import new_id
from tests.benchmarks.measure import percentile

STREAMS = 50
GAP_SECONDS = 0.005
ROUNDS = 5


class Journaling(msgspec.Struct, frozen=True):
    """CPU per token, medians of interleaved rounds: of the streams alone, and what the journal adds. `bytes_per_token`
    is what Redis keeps of a run."""

    without_us: float
    with_us: float
    bytes_per_token: float

    @property
    def added_us(self) -> float:
        return self.with_us - self.without_us


async def measure(tokens: int = 200) -> Journaling:
    with tempfile.TemporaryDirectory(prefix="cadence-bench-") as home:
        server = Valkey(Path(home), is_durable=False)
        await asyncio.to_thread(server.start)
        try:
            async with Redis.from_url(server.url) as redis:
                journal = EventJournal(redis, keep_seconds=600)
                running = asyncio.create_task(journal.run())
                await asyncio.sleep(0.2)
                await _round(journal, tokens)
                rounds = [(await _round(None, tokens), await _round(journal, tokens)) for _ in range(ROUNDS)]
                await asyncio.sleep(0.2)
                sizes = [cast("int", await redis.memory_usage(key)) async for key in redis.scan_iter("run:*:events")]
                running.cancel()
        finally:
            await asyncio.to_thread(server.stop)
    without_us, with_us = (percentile([one[side] for one in rounds], 50) for side in (0, 1))
    return Journaling(without_us, with_us, sum(sizes) / len(sizes) / tokens)


async def _round(journal: EventJournal | None, tokens: int) -> float:
    before = time.process_time()
    await asyncio.gather(*(_stream(journal, tokens, number) for number in range(STREAMS)))
    return (time.process_time() - before) * 1e6 / (STREAMS * tokens)


async def _stream(journal: EventJournal | None, tokens: int, number: int) -> None:
    await asyncio.sleep(GAP_SECONDS * number / STREAMS)
    run_id = new_id()
    stream = RunStream(run_id, is_followed=True, log=journal.begin(new_id(), run_id) if journal else None)
    stream.record()
    stream.follow(partial(_taken, stream))
    loop = asyncio.get_running_loop()
    due = loop.time()
    for _ in range(tokens):
        stream.message("lorem ", "conversational_node")
        due += GAP_SECONDS
        await asyncio.sleep(due - loop.time())
    stream.end("metadata", {"final": True})


def _taken(stream: RunStream) -> None:
    stream.take()
