"""What goes wrong, and when: a plan made from a seed, and what carries it out."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import cast

import msgspec
from redis.asyncio import Redis

from tests.chaos.stack import ChaosStack, ExtraRelay

MEAN_GAP_SECONDS = 2.5
READY_SECONDS = 90.0

KINDS: Sequence[tuple[str, int]] = (
    ("kill worker", 6),
    ("pause worker", 6),
    ("kill control plane", 1),
    ("pause control plane", 2),
    ("kill relay", 1),
    ("pause relay", 1),
    ("cut Redis", 3),
    ("freeze Redis", 2),
    ("cut MongoDB", 3),
    ("freeze MongoDB", 2),
    ("cut broker", 2),
    ("freeze broker", 1),
)
"""With how often each comes, relative to the others."""


class Fault(msgspec.Struct, frozen=True):
    """`at` is seconds after the beginning, `which` picks one of several of a kind."""

    at: float
    kind: str
    which: int
    seconds: float


class Strike(msgspec.Struct, frozen=True):
    """A worker that was lost at a moment (Unix time), and the runs that it had."""

    at: float
    worker: str
    kind: str
    run_ids: frozenset[str]


def planned(seed: int, seconds: float) -> list[Fault]:
    chance = random.Random(f"faults-{seed}")
    kinds, weights = zip(*KINDS, strict=True)
    faults, at = [], 1.0
    while at < seconds:
        (kind,) = chance.choices(kinds, weights)
        length = min(chance.expovariate(1 / 2.5), 9.0)
        faults.append(Fault(at, kind, chance.randrange(1000), 0.2 + length))
        at += chance.expovariate(1 / MEAN_GAP_SECONDS)
    return faults


class Faults:
    """Carries out a plan; `counts` and `strikes` say what really happened."""

    def __init__(self, stack: ChaosStack, relay: ExtraRelay, redis: "Redis") -> None:
        self._stack = stack
        self._relay = relay
        self._redis = redis
        self._struck: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        self.strikes: list[Strike] = []
        self.outages: list[tuple[float, float]] = []
        """When Redis or MongoDB was away, in Unix time."""

    @property
    def now(self) -> list[str]:
        return [f"{action} {target}" for target, action in self._struck.items()]

    async def run(self, plan: Sequence[Fault]) -> None:
        """Until the plan is over, or cancelled; `mend` has to follow."""
        started = time.monotonic()
        for fault in plan:
            await asyncio.sleep(max(0.0, started + fault.at - time.monotonic()))
            task = asyncio.create_task(self._happen(fault))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def mend(self) -> None:
        """Let everything go on, and wait until all workers are there again."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with asyncio.timeout(READY_SECONDS):
            for slug in (*self._stack.workers, "control-plane"):
                while self._stack.pid(slug) is None or not await self._is_ready(slug):
                    await asyncio.sleep(0.25)

    async def _happen(self, fault: Fault) -> None:
        action, _, what = fault.kind.partition(" ")
        if what == "worker":
            free = [slug for slug in self._stack.workers if slug not in self._struck]
            # At least half of the fleet stays: what the others have to take over is what this is about.
            if len(self._struck) >= max(1, len(self._stack.workers) // 2):
                return
            await self._strike(action, free[fault.which % len(free)], fault)
        elif what == "control plane":
            if "control-plane" not in self._struck:
                await self._strike(action, "control-plane", fault)
        elif what == "relay":
            if "relay" not in self._struck:
                await self._strike(action, "relay", fault)
        elif what not in self._struck:
            await self._strike(action, what, fault)

    async def _strike(self, action: str, target: str, fault: Fault) -> None:
        self._struck[target] = action
        began_at = time.time()
        self.counts[fault.kind] += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with (self._stack.running.data_dir / "logs" / "faults.log").open("a") as log:
            log.write(f"{at} {action} {target} {fault.seconds:.1f} s\n")
        try:
            match action:
                case "kill":
                    await self._kill(target, fault)
                case "pause":
                    await self._pause(target, fault)
                case "cut":
                    await self._stack.wires[target].cut()
                    try:
                        await asyncio.sleep(fault.seconds)
                    finally:
                        await self._stack.wires[target].mend()
                case "freeze":
                    self._stack.wires[target].freeze()
                    try:
                        await asyncio.sleep(fault.seconds)
                    finally:
                        self._stack.wires[target].thaw()
        finally:
            self._struck.pop(target, None)
            if target in ("Redis", "MongoDB"):
                self.outages.append((began_at, time.time()))

    async def _kill(self, target: str, fault: Fault) -> None:
        if target == "relay":
            self._relay.kill()
            await asyncio.sleep(fault.seconds)
            self._relay.start()
            return
        before = self._stack.pid(target)
        await self._note(target, fault)
        self._stack.send(target, signal.SIGKILL)
        async with asyncio.timeout(READY_SECONDS):
            while self._stack.pid(target) in (None, before) or not await self._is_ready(target):
                await asyncio.sleep(0.25)

    async def _pause(self, target: str, fault: Fault) -> None:
        send = self._relay.send if target == "relay" else lambda number: self._stack.send(target, number)
        await self._note(target, fault)
        send(signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            send(signal.SIGCONT)

    async def _note(self, target: str, fault: Fault) -> None:
        """Which runs a worker has as it is struck."""
        if not target.startswith("worker-"):
            return
        runs = await runs_by_url(self._redis)
        url = self._stack.addresses()[target]
        self.strikes.append(Strike(time.time(), target, fault.kind, frozenset(runs.get(url, ()))))

    async def _is_ready(self, slug: str) -> bool:
        url = self._stack.addresses()[slug]
        try:
            async with asyncio.timeout(3):
                host, _, port = url.removeprefix("http://").partition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in line


async def runs_by_url(redis: "Redis") -> dict[str, set[str]]:
    """The ids of the runs that are going on, by the address of the worker that has them."""
    urls: dict[str, str] = {}
    for worker_id in cast("list[bytes]", await redis.zrange("workers", 0, -1)):
        if raw := await redis.get(f"worker:{worker_id.decode()}"):
            urls[worker_id.decode()] = msgspec.json.decode(raw)["url"]
    found: dict[str, set[str]] = {}
    for member in cast("list[bytes]", await redis.zrange("run_claims", 0, -1)):
        run_id = member.decode().partition(":")[2]
        owner = await cast("Awaitable[bytes | None]", redis.hget(f"run:{run_id}", "owner"))
        if owner is not None and (url := urls.get(owner.decode())):
            found.setdefault(url, set()).add(run_id)
    return found
