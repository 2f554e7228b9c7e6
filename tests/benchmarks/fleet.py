"""The fleet: what a second worker brings on two cores, reloads under fire, and what it costs that runs survive.

just bench fleet [--quick] [--json FILE] [--only throughput --only reloads --only journal]
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from deploy.demo.api import CadenceAPI
from deploy.demo.package import demo_package
from shared.frameworks import Provider
from tests.benchmarks import journals, processes
from tests.benchmarks.load import Load, LoadResult
from tests.benchmarks.reloads import Reloads, Target, under_fire
from tests.benchmarks.report import machine
from tests.benchmarks.servers import BenchModel
from tests.benchmarks.stack import BenchTenant, Instance, StartedStack, started
from tests.e2e.client import read_events

PARTS = ("throughput", "reloads", "journal")
TOKENS, GAP_MS = 200, 1
WORKERS_UNDER_FIRE = 4
REPLAYS = 100
MODEL_UNDER_FIRE = "bench-t200-d100"
"""Streams that last: what is measured is reloads beside them, and not how many runs two cores can begin a second."""


class Plan(msgspec.Struct, frozen=True):
    clients: int = 50
    requests: int = 200
    streams: int = 200
    changes: int = 60
    change_seconds: float = 1.0
    brokerless_changes: int = 8


QUICK = Plan(clients=4, requests=8, streams=8, changes=2, change_seconds=0.5, brokerless_changes=1)


class Throughput(msgspec.Struct, frozen=True):
    workers: int
    tokens_per_second: float
    cpu_us_per_token: float
    errors: dict[str, int]


class Resume(msgspec.Struct, frozen=True):
    """Of one replay of a run with TOKENS tokens, from its first event to its last."""

    elapsed_ms: float
    cpu_ms: float


class Report(msgspec.Struct):
    machine: str
    throughput: list[Throughput] = []
    resume: Resume | None = None
    reloads: Reloads | None = None
    without_broker: Reloads | None = None
    journal: journals.Journaling | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks fleet")
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it runs")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part only; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    options = parser.parse_args(arguments)
    plan, console = QUICK if options.quick else Plan(), Console()
    report = measure(plan, options.only or PARTS, console)
    _show(report, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def measure(plan: Plan, parts: Sequence[str], console: Console) -> Report:
    report = Report(machine=machine())
    with tempfile.TemporaryDirectory(prefix="cadence-bench-") as directory:
        home = Path(directory)
        model = BenchModel(home)
        model.start()
        try:
            if "throughput" in parts:
                for workers in (1, 2):
                    console.print(f"[dim]throughput with {workers}[/]")
                    with started(home / f"of-{workers}", console, workers=workers) as stack:
                        asyncio.run(_throughput(stack, model.url + "/v1", plan, workers, report))
            if "reloads" in parts:
                console.print("[dim]reloads under fire[/]")
                with started(home / "reloads", console, workers=WORKERS_UNDER_FIRE) as stack:
                    asyncio.run(_reloads(stack, model.url + "/v1", plan, report))
        finally:
            model.stop()
    if "journal" in parts:
        console.print("[dim]the journal[/]")
        report.journal = uvloop.run(journals.measure())
    return report


async def _throughput(stack: StartedStack, model_url: str, plan: Plan, workers: int, report: Report) -> None:
    async with aiohttp.ClientSession() as session:
        api, _, instance = await _seeded(stack, session, model_url, f"bench-t{TOKENS}-d{GAP_MS}")
        found = [stack.process(f"worker-{number}") for number in range(1, workers + 1)]
        loads = [
            Load(
                url=f"{url}{instance.path}/completion/stream",
                body='{"message":"hello"}',
                clients=plan.clients // workers,
                requests=plan.requests // workers,
                tokens=TOKENS,
                headers=api.headers,
            )
            for _, url in found
        ]
        await asyncio.gather(*(_sent(msgspec.structs.replace(load, requests=load.clients)) for load in loads))
        before = sum(processes.cpu_seconds(pid) for pid, _ in found)
        results = await asyncio.gather(*(_sent(load) for load in loads))
        used = sum(processes.cpu_seconds(pid) for pid, _ in found) - before
        tokens = sum(result.tokens for result in results)
        errors = {why: count for result in results for why, count in result.errors.items()}
        seconds = max(result.seconds for result in results)
        report.throughput.append(Throughput(workers, tokens / seconds, used * 1e6 / max(tokens, 1), errors))
        if workers == 1:
            report.resume = await _resume(session, found[0], instance, api.headers)


async def _sent(load: Load) -> LoadResult:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.load", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate(msgspec.json.encode(load))
    return msgspec.json.decode(out, type=LoadResult)


async def _resume(
    session: aiohttp.ClientSession, worker: tuple[int, str], instance: Instance, headers: dict[str, str]
) -> Resume:
    pid, url = worker
    async with session.post(
        f"{url}{instance.path}/completion/stream", json={"message": "hello"}, headers=headers
    ) as response:
        events = [event async for event in read_events(response.content)]
    organization = instance.path.partition("/orchestrators/")[0]
    replay = f"{url}{organization}/runs/{events[0].data['run_id']}/stream"
    cpu_before, began = processes.cpu_seconds(pid), time.perf_counter()
    for _ in range(REPLAYS):
        async with session.get(replay, headers=headers) as response:
            assert (await response.read()).count(b"event: message") == TOKENS
    elapsed = time.perf_counter() - began
    return Resume(elapsed * 1000 / REPLAYS, (processes.cpu_seconds(pid) - cpu_before) * 1000 / REPLAYS)


async def _reloads(stack: StartedStack, model_url: str, plan: Plan, report: Report) -> None:
    async with aiohttp.ClientSession() as session:
        api, tenant, instance = await _seeded(stack, session, model_url, MODEL_UNDER_FIRE)
        slugs = [f"worker-{number}" for number in range(1, WORKERS_UNDER_FIRE + 1)]
        target = Target(
            gateway_url=stack.url,
            path=instance.path,
            headers=api.headers,
            config=tenant.config(MODEL_UNDER_FIRE),
            workers={stack.process(slug)[1]: stack.directory.logs / f"{slug}.log" for slug in slugs},
        )
        report.reloads = await under_fire(
            target, streams=plan.streams, changes=plan.changes, pause_seconds=plan.change_seconds
        )
        broker, _ = stack.process("nats")
        processes.signal_all(broker, signal.SIGSTOP)
        try:
            # Slowly: each has to be seen before the next is there.
            report.without_broker = await under_fire(
                target, streams=plan.streams // 4, changes=plan.brokerless_changes, pause_seconds=6.0
            )
        finally:
            processes.signal_all(broker, signal.SIGCONT)


async def _seeded(
    stack: StartedStack, session: aiohttp.ClientSession, model_url: str, model: str
) -> tuple[CadenceAPI, BenchTenant, Instance]:
    api = CadenceAPI(stack.url, session)
    tenant = await BenchTenant.create(api, stack.secrets, model_url, package=demo_package(), provider=Provider.OPENAI)
    return api, tenant, await tenant.instance("fleet", model)


def _show(report: Report, console: Console) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("machine", report.machine)
    for row in report.throughput:
        cost = f"{row.cpu_us_per_token:.0f} µs of the workers' CPU each{f', {row.errors}' if row.errors else ''}"
        table.add_row(f"throughput, workers: {row.workers}", f"{row.tokens_per_second:.0f} tokens/s, {cost}")
    if resume := report.resume:
        table.add_row(f"replay of {TOKENS} tokens", f"{resume.elapsed_ms:.1f} ms, {resume.cpu_ms:.1f} ms of CPU")
    for name, reloads in (("reloads", report.reloads), ("reloads without broker", report.without_broker)):
        if reloads:
            times = f"{len(reloads.served_ms)} of {reloads.changes} served by all workers"
            times += f", p50 {reloads.p50_ms:.0f} ms, p99 {reloads.p99_ms:.0f} ms"
            table.add_row(name, f"{times}; {reloads.streams} streams, {len(reloads.wrong)} failed or truncated")
    if journal := report.journal:
        cost = f"{journal.added_us:.1f} µs of CPU per token ({journal.with_us:.1f} with it)"
        table.add_row("journal", f"{cost}, {journal.bytes_per_token:.0f} bytes per token in Redis")
    console.print(table)
    for reloads in (report.reloads, report.without_broker):
        for why in sorted(set(reloads.wrong if reloads else ()))[:10]:
            console.print(f"  {why}", style="red", markup=False)
