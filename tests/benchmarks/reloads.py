"""Configurations that change under many live streams: whether any stream suffers, and when the last worker serves what
was accepted."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.benchmarks.measure import percentile
from tests.e2e.client import Stream, read_events

BEGIN_SECONDS = 3.0
"""Until all streams have begun."""
SERVING_SECONDS = 60.0
"""How long workers may take for the first build."""
SETTLE_SECONDS = 6.0
"""Longer than the change feed needs when nobody says that something changed."""


class Target(msgspec.Struct, frozen=True):
    """One instance: its path, who may use and change it, its config, and every worker by address with its log."""

    gateway_url: str
    path: str
    headers: dict[str, str]
    config: dict[str, Any]
    workers: dict[str, Path]

    @property
    def instance_id(self) -> str:
        return self.path.rpartition("/")[2]


class Reloads(msgspec.Struct, frozen=True):
    """`served_ms` from the answer to a change until the last worker had built it, or what replaced it. `wrong` is what
    streams suffered."""

    streams: int
    changes: int
    served_ms: list[float]
    not_served: int
    wrong: list[str]

    @property
    def p50_ms(self) -> float:
        return percentile(self.served_ms, 50)

    @property
    def p99_ms(self) -> float:
        return percentile(self.served_ms, 99)


async def under_fire(target: Target, *, streams: int, changes: int, pause_seconds: float) -> Reloads:
    """So many streams side by side, again and again, spread over the workers, until all changes are made."""
    told: list[tuple[str, str]] = []
    wrong: list[str] = []
    is_over = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:

        async def listen(number: int) -> None:
            url = list(target.workers)[number % len(target.workers)] + target.path + "/completion/stream"
            await asyncio.sleep(number * 2 / streams)
            while not is_over.is_set():
                try:
                    await one_stream(url)
                except (aiohttp.ClientError, TimeoutError) as error:
                    wrong.append(f"{type(error).__name__}: {error}")

        async def one_stream(url: str) -> None:
            async with http.post(url, json={"message": "hello"}, headers=target.headers) as response:
                if response.status != 200:
                    wrong.append(f"{response.status} {(await response.text())[:200]}")
                    return
                stream = Stream(200, [event async for event in read_events(response.content)])
            if not stream.is_completed or not stream.text:
                wrong.append(f"ended with {stream.last if stream.events else 'nothing'}")
            elif [event.seq for event in stream.events] != list(range(1, len(stream.events) + 1)):
                wrong.append("has a gap")
            else:
                told.append((stream.first["run_id"], stream.first["config_hash"]))

        listening = [asyncio.create_task(listen(number)) for number in range(streams)]
        await _everybody_serves(target)
        await asyncio.sleep(BEGIN_SECONDS)
        accepted = [await _change(http, target, pause_seconds) for _ in range(changes)]
        await asyncio.sleep(SETTLE_SECONDS)
        is_over.set()
        await asyncio.gather(*listening)
        organization = target.path.partition("/orchestrators/")[0]
        for run_id, config_hash in told:
            url = f"{target.gateway_url}{organization}/runs/{run_id}"
            async with http.get(url, headers=target.headers) as response:
                if (await response.json())["config_hash"] != config_hash:
                    wrong.append(f"run {run_id} was announced with another configuration than it ran on")
    served = _served_after(accepted, [_built(log, target.instance_id) for log in target.workers.values()])
    found = [ms for ms in served if ms is not None]
    return Reloads(len(told), changes, found, len(served) - len(found), wrong)


async def _change(http: aiohttp.ClientSession, target: Target, pause_seconds: float) -> tuple[float, str]:
    """When a change was answered, and the hash that has to be served."""
    body = {"config": {**target.config, "conversation_starters": [f"Question {time.time_ns()}"]}}
    url = f"{target.gateway_url}{target.path}/config"
    async with http.patch(url, json=body, headers=target.headers) as response:
        answer = await response.json()
        assert response.status == 200, answer
    at = time.time()
    await asyncio.sleep(pause_seconds)
    return at, answer["config_hash"]


async def _everybody_serves(target: Target) -> None:
    """Wait until every worker has built it: the first build may import a framework, which is another figure."""
    async with asyncio.timeout(SERVING_SECONDS):
        for log in target.workers.values():
            while not await asyncio.to_thread(_built, log, target.instance_id):
                await asyncio.sleep(0.1)


def _served_after(accepted: Sequence[tuple[float, str]], workers: Sequence[Mapping[str, float]]) -> list[float | None]:
    """Milliseconds until every worker had built each configuration, or one that replaced it; None where one never did.

    A worker that is still building when the next change comes goes on with that one.
    """
    hashes = [config_hash for _, config_hash in accepted]
    found: list[float | None] = []
    for number, (at, _) in enumerate(accepted):
        moments = [min((built[h] for h in hashes[number:] if h in built), default=None) for built in workers]
        there = [moment for moment in moments if moment is not None]
        found.append(max(0.0, (max(there) - at) * 1000) if len(there) == len(workers) else None)
    return found


def _built(log: Path, instance_id: str) -> dict[str, float]:
    """When a worker first had which configuration of the instance, from its log."""
    found: dict[str, float] = {}
    for line in log.read_bytes().splitlines():
        if b"orchestrator_built" in line:
            entry = msgspec.json.decode(line)
            if entry["instance_id"] != instance_id:
                continue
            found.setdefault(entry["config_hash"], datetime.fromisoformat(entry["timestamp"]).timestamp())
    return found
