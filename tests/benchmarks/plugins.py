"""What a tool call through a plugin host costs over one in the worker, and what a host costs while it does nothing.

Both ways are measured in turn, over the same package: a sync tool that adds two numbers, 20 calls at a time.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from runtime_worker.plugins.base import PluginBundle
from runtime_worker.plugins.hosts import PluginHosts
from runtime_worker.plugins.in_process import InProcessLoader
from runtime_worker.plugins.packages import PackageCache
from shared.ids import new_id
from shared.logging import configure_logging
from shared.packages.directory import DirectoryStore
from shared.packages.environments import Environments
from shared.settings import PluginHostSettings
from tests.benchmarks.measure import percentile
from tests.benchmarks.report import machine
from tests.fakes.plugin_packages import package, snapshot_of

CONCURRENT = 20
CALLS = 4_000
ROUNDS = 5
IDLE_HOSTS = 5
ALLOWED_P50_MS, ALLOWED_P99_MS, ALLOWED_IDLE_MB = 1.0, 3.0, 25.0


class Latency(msgspec.Struct, frozen=True):
    p50_ms: float
    p99_ms: float


class Report(msgspec.Struct, frozen=True):
    """`added_…` is the hosted figure less the one in process, medians over the rounds. `idle_mb` is what one host adds
    (its proportional set size) while several run, `start_ms` from nothing to a bundle that can be called."""

    machine: str
    in_process: Latency
    hosted: Latency
    added_p50_ms: float
    added_p99_ms: float
    idle_mb: float
    idle_resident_mb: float
    start_ms: float

    @property
    def keeps_its_promises(self) -> bool:
        return (
            self.added_p50_ms <= ALLOWED_P50_MS
            and self.added_p99_ms <= ALLOWED_P99_MS
            and self.idle_mb <= ALLOWED_IDLE_MB
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks plugins")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="a few calls only, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    options = parser.parse_args(arguments)
    configure_logging("ERROR")
    calls = CONCURRENT * 2 if options.quick else CALLS
    report = uvloop.run(measure(calls, 1 if options.quick else options.rounds))
    _show(report, Console())
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


async def measure(calls: int, rounds: int) -> Report:
    with tempfile.TemporaryDirectory(prefix="cadence-bench-") as home:
        root = Path(home)
        store = DirectoryStore(root / "store")
        packages = PackageCache(store, root / "packages")
        hosts = PluginHosts(
            packages,
            Environments(root / "environments"),
            PluginHostSettings(),
            network="own",
            needs_walls=True,
        )
        data = package()
        plugin = snapshot_of(data, org_id=new_id())
        await store.put(plugin.package_key, data)
        ids = {"org_id": new_id(), "instance_id": new_id()}
        try:
            starts: list[float] = []
            hosted = []
            for _ in range(IDLE_HOSTS):
                before = time.perf_counter()
                hosted.append(await hosts.load(plugin, **ids))
                starts.append((time.perf_counter() - before) * 1000)
            idle = [_memory_mb(bundle.process_id or 0) for bundle in hosted]
            local = await InProcessLoader(packages).load(plugin, **ids)
            for bundle in (local, hosted[0]):
                await _sample(bundle, CONCURRENT * 10)
            samples = [(await _sample(local, calls), await _sample(hosted[0], calls)) for _ in range(rounds)]
            await local.close()
        finally:
            await hosts.close()
    return _report(samples, idle, starts)


async def _sample(bundle: PluginBundle, calls: int) -> Latency:
    times: list[float] = []

    async def client() -> None:
        for n in range(calls // CONCURRENT):
            before = time.perf_counter()
            outcome = await bundle.call("add", {"a": n, "b": 1}, timeout_seconds=30)
            times.append((time.perf_counter() - before) * 1000)
            assert outcome.shown == n + 1, outcome

    await asyncio.gather(*(client() for _ in range(CONCURRENT)))
    return Latency(percentile(times, 50), percentile(times, 99))


def _report(samples: list[tuple[Latency, Latency]], idle: list[tuple[float, float]], starts: list[float]) -> Report:
    def middle(values: Sequence[float]) -> float:
        return percentile(values, 50)

    local, hosted = (
        Latency(middle([s[side].p50_ms for s in samples]), middle([s[side].p99_ms for s in samples])) for side in (0, 1)
    )
    return Report(
        machine=machine(),
        in_process=local,
        hosted=hosted,
        added_p50_ms=middle([h.p50_ms - i.p50_ms for i, h in samples]),
        added_p99_ms=middle([h.p99_ms - i.p99_ms for i, h in samples]),
        idle_mb=max(pss for pss, _ in idle),
        idle_resident_mb=max(resident for _, resident in idle),
        start_ms=middle(starts),
    )


def _memory_mb(process_id: int) -> tuple[float, float]:
    """Proportional and resident set size."""
    words = Path(f"/proc/{process_id}/smaps_rollup").read_text().split()
    pss, resident = (int(words[words.index(name) + 1]) / 1024 for name in ("Pss:", "Rss:"))
    return pss, resident


def _show(report: Report, console: Console) -> None:
    table = Table("", "p50 ms", "p99 ms", title=f"Tool calls, {CONCURRENT} at a time ({report.machine})")
    table.add_row("in process", f"{report.in_process.p50_ms:.2f}", f"{report.in_process.p99_ms:.2f}")
    table.add_row("in a host", f"{report.hosted.p50_ms:.2f}", f"{report.hosted.p99_ms:.2f}")
    table.add_row("added", f"{report.added_p50_ms:.2f}", f"{report.added_p99_ms:.2f}")
    table.add_row("allowed", f"{ALLOWED_P50_MS:.2f}", f"{ALLOWED_P99_MS:.2f}")
    console.print(table)
    console.print(
        f"An idle host holds {report.idle_mb:.1f} MB (allowed {ALLOWED_IDLE_MB:g}; resident, shared libraries counted "
        f"whole: {report.idle_resident_mb:.1f}) and starts in {report.start_ms:.0f} ms."
    )
    console.print("Kept." if report.keeps_its_promises else "[red]Not kept.[/]")
