"""Configurations that change under many live streams: whether any stream suffers, and when the last worker serves what
was accepted."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.benchmarks.measure import percentile
from tests.e2e.client import Stream, read_events

SETTLE_SECONDS = 6.0
"""Longer than the change feed needs when nobody says that something changed."""


class Target(msgspec.Struct, frozen=True):
    """One instance: its path, who may use and change it, its config, and every worker by address with its log."""

    gateway_url: str
    path: str
    headers: dict[str, str]
    config: dict[str, Any]
    workers: dict[str, Path]


class Reloads(msgspec.Struct, frozen=True):
    """`served_ms` from the answer to a change until the last worker had built it. `wrong` is what streams suffered."""

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
        await asyncio.sleep(3)  # Until everybody has begun, and every worker has the instance.
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
    served = served_after(accepted, target.workers.values())
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


def served_after(accepted: Sequence[tuple[float, str]], logs: Iterable[Path]) -> list[float | None]:
    """Milliseconds until every worker had built each configuration; None where one never did."""
    built = [_built(log) for log in logs]
    times = [(at, [worker.get(config_hash) for worker in built]) for at, config_hash in accepted]
    return [max(0.0, (max(m for m in moments if m) - at) * 1000) if all(moments) else None for at, moments in times]


def _built(log: Path) -> dict[str, float]:
    """When a worker first had which configuration, from its log."""
    found: dict[str, float] = {}
    for line in log.read_bytes().splitlines():
        if b"orchestrator_built" in line:
            entry = msgspec.json.decode(line)
            found.setdefault(entry["config_hash"], datetime.fromisoformat(entry["timestamp"]).timestamp())
    return found
