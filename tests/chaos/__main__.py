"""See the package's docstring."""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path

import aiohttp
import msgspec
import uvloop
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis
from rich.console import Console

import tests.chaos
from tests.chaos import report
from tests.chaos.faults import Faults, planned
from tests.chaos.model import ChaosModel
from tests.chaos.stack import ChaosStack, ExtraRelay, chaos_stack
from tests.chaos.traffic import Traffic
from tests.chaos.verdict import Verdict, judge
from tests.e2e.client import Client
from tests.e2e.tenant import Tenant

CHANGE_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
TABLE_COLUMNS = 160


class Options(msgspec.Struct, frozen=True):
    """`seconds` bounds the time under fire, `runs` how many turns are begun in it."""

    runs: int = 1000
    seconds: float = 480
    workers: int = 4
    seed: int = 1
    tenants: int = 2
    clients: int = 24
    keep: bool = False


async def run(options: Options, home: Path, console: Console) -> Verdict:
    """Everything, from nothing to the table."""
    model = ChaosModel()
    timeout = aiohttp.ClientTimeout(total=150)
    async with (
        TestServer(model.app) as server,
        chaos_stack(home, workers=options.workers) as (stack, relay),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session,
        Redis.from_url(stack.urls["Redis"]) as redis,
    ):
        admin = Client(stack.running.url, session)
        await admin.login(*stack.running.credentials())
        made = [await Tenant.create(admin, str(server.make_url("/v1"))) for _ in range(options.tenants)]
        return await _under_fire(options, console, model, stack, relay, made, redis)


async def _under_fire(
    options: Options,
    console: Console,
    model: ChaosModel,
    stack: ChaosStack,
    relay: ExtraRelay,
    tenants: Sequence[Tenant],
    redis: "Redis",
) -> Verdict:
    traffic = Traffic(tenants, options.seed, max_runs=options.runs)
    faults = Faults(stack, relay, redis)
    changes = Changes(tenants)
    started = time.monotonic()
    console.print(f"{len(stack.workers)} workers, seed {options.seed}; logs in {stack.running.data_dir / 'logs'}")
    clients = [asyncio.create_task(traffic.client(number)) for number in range(options.clients)]
    troubles = [
        asyncio.create_task(faults.run(planned(options.seed, options.seconds))),
        asyncio.create_task(changes.run()),
    ]
    progress = asyncio.create_task(_progress(console, traffic, faults, started))
    try:
        await asyncio.wait({*clients}, timeout=options.seconds)
    finally:
        traffic.end()
        for task in troubles:
            task.cancel()
        await faults.mend()
    # What was begun is finished; a client that hangs gives up by itself.
    await asyncio.gather(*clients)
    progress.cancel()
    console.print("asking for every run")
    verdict = await judge(tenants, traffic.transcripts, stack.urls["MongoDB"], redis, model.foreign)
    taken = report.takeovers([stack.log_path(slug) for slug in stack.workers], faults)
    seconds = time.monotonic() - started
    report.show(console, verdict, traffic, faults.counts, changes.accepted, taken, seconds)
    return verdict


async def _progress(console: Console, traffic: Traffic, faults: Faults, started: float) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        wrong = sum(len(transcript.wrong) for transcript in traffic.transcripts)
        console.print(
            f"[dim]{time.monotonic() - started:4.0f} s: {len(traffic.transcripts)} turns begun, {traffic.ended} ended,"
            f" {faults.counts.total()} faults, now {', '.join(faults.now) or 'none'}"
            f"{f', {wrong} violations' if wrong else ''}[/]"
        )


class Changes:
    """An admin who changes a configuration once a second."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self._tenants = tenants
        self.accepted = 0

    async def run(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(CHANGE_SECONDS)
            number += 1
            tenant = self._tenants[number % len(self._tenants)]
            config = {"default_llm_config_id": tenant.llm_config_id, "conversation_starters": [f"Question {number}"]}
            try:
                answer = await tenant.client.call("PATCH", f"{tenant.path}/config", json={"config": config})
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                continue
            self.accepted += answer.status < 300


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parsed(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_COLUMNS)
    home = Path(tempfile.mkdtemp(prefix="cadence-chaos-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            verdict = runner.run(_stoppable(run(options, home, console)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print(f"stopped; logs are in {home}")
        return 130
    if verdict.violations or options.keep:
        console.print(f"logs are kept in {home}")
    else:
        shutil.rmtree(home)
    return 1 if verdict.violations else 0


async def _stoppable(running: Coroutine[None, None, Verdict]) -> Verdict:
    """Whoever ends this process means everything that it started."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await running


def _parsed(arguments: Sequence[str] | None) -> Options:
    usual = Options()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=tests.chaos.__doc__)
    parser.add_argument("--runs", type=int, default=usual.runs, help="how many turns are begun at most")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="how long things go wrong at most")
    parser.add_argument("--workers", type=int, default=usual.workers)
    parser.add_argument("--clients", type=int, default=usual.clients, help="people who talk at the same time")
    parser.add_argument("--seed", type=int, default=usual.seed, help="what goes wrong, when, and who says what")
    parser.add_argument("--keep", action="store_true", help="keep the logs also when nothing was wrong")
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
