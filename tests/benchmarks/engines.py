"""What each combination of framework and mode costs: per token beside the relay, per run, per build, per instance.

Tokens go through a real worker of the embedded stack. Builds and memory are measured in a process of their own for each
combination (`crowd.py`), so that no framework is in another's figures.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from deploy.demo.api import CadenceAPI
from shared.frameworks import Framework
from tests.benchmarks import processes, stack
from tests.benchmarks.combinations import DECIDING_MODEL, PROVIDER, RESOURCE_ID, Combination, runnable, scoped_package
from tests.benchmarks.crowd import Crowd, CrowdResult
from tests.benchmarks.measure import Plan, Sample, Target, median, sample, warm_up
from tests.benchmarks.report import machine
from tests.benchmarks.servers import BenchModel, Relay

INSTANCES = 500
PLAN = Plan(requests_per_client=2)
QUICK, QUICK_INSTANCES = Plan(clients=5, requests_per_client=1, tokens=20, gap_ms=1, few=4, rounds=1), 5
CROWD_MODEL = "bench-t100-d5"
ALLOWED_RATIO, ALLOWED_BUILD_P50_MS, ALLOWED_SILENCE_MS, ALLOWED_KB = 1.6, 5.0, 20.0, 150.0
ALLOWED_LOADING_SECONDS = 4.0
TABLE_COLUMNS = 160
LOADING = """
from time import process_time
import runtime_worker.pool.building
from runtime_worker.engines.registry import prepare_engine
from shared.frameworks import Framework, Mode
started = process_time()
for framework in Framework:
    prepare_engine(framework, Mode.SUPERVISOR)
print(process_time() - started)
"""


class Tokens(msgspec.Struct, frozen=True):
    """Medians over the rounds. `ratio` is CPU per token over the relay's in the same rounds; `added_p50_ms` the time to
    the first token less what the model alone takes for as many calls."""

    cpu_us_per_token: float
    ratio: float
    opening_p50_ms: float
    added_p50_ms: float
    errors: dict[str, int]


class Row(msgspec.Struct, frozen=True):
    """`crowd` or `tokens` is None when it was not asked for."""

    combination: Combination
    crowd: CrowdResult | None
    tokens: Tokens | None

    @property
    def misses(self) -> list[str]:
        """The promises that this run did not keep."""
        crowd, missed = self.crowd, []
        if self.tokens and self.tokens.ratio > ALLOWED_RATIO:
            missed.append(f"CPU per token over {ALLOWED_RATIO} × the relay's")
        if crowd is None:
            return missed
        if crowd.build_p50_ms > ALLOWED_BUILD_P50_MS:
            missed.append(f"build p50 over {ALLOWED_BUILD_P50_MS:g} ms")
        # What builds add to the longest silence of a stream.
        if crowd.during_silence_ms - crowd.quiet_silence_ms > ALLOWED_SILENCE_MS:
            missed.append(f"a stream stood still for more than {ALLOWED_SILENCE_MS:g} ms")
        if crowd.kb_per_instance > ALLOWED_KB:
            missed.append(f"over {ALLOWED_KB:g} KB an instance")
        return missed


class Report(msgspec.Struct, frozen=True):
    plan: Plan
    instances: int
    machine: str
    relay_cpu_us_per_token: float | None
    loading_cpu_seconds: float | None
    rows: list[Row]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks engines")
    parser.add_argument("--rounds", type=int, help="interleaved rounds, 3 when left out")
    parser.add_argument(
        "--quick", action="store_true", help="a few tokens only, to see that it runs; no usable figures"
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="combinations whose name holds one of them (a,b)")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--builds-only", action="store_true", help="without the stack")
    parts.add_argument("--tokens-only", action="store_true", help="without builds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    options = parser.parse_args(arguments)
    plan, instances = (QUICK, QUICK_INSTANCES) if options.quick else (PLAN, INSTANCES)
    plan = msgspec.structs.replace(plan, rounds=options.rounds or plan.rounds)
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_COLUMNS)
    combinations = list(runnable(options.only))
    report = measure(
        combinations,
        plan,
        instances,
        console,
        with_builds=not options.tokens_only,
        with_tokens=not options.builds_only,
    )
    _show(report, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        console.print(f"written to {options.json}")


def measure(
    combinations: Sequence[Combination],
    plan: Plan,
    instances: int,
    console: Console,
    *,
    with_builds: bool,
    with_tokens: bool,
) -> Report:
    tested_core, other_core = processes.cores()
    os.sched_setaffinity(0, {other_core})
    with ExitStack() as running:
        home = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="cadence-bench-")))
        model = BenchModel(home)
        running.callback(model.stop)
        model.start()
        crowds: dict[Combination, CrowdResult] = {}
        for combination in combinations if with_builds else ():
            console.print(f"[dim]{instances} instances: {combination}[/]")
            crowd = Crowd(combination, model.url + "/v1", CROWD_MODEL, instances)
            crowds[combination] = _gathered(crowd, tested_core)
        tokens: dict[Combination, Tokens] = {}
        relay_cpu = None
        if with_tokens:
            relay = Relay(home, model.url + "/v1")
            running.callback(relay.stop)
            relay.start()
            started = running.enter_context(stack.started(home / "stack", console))
            tokens, relay_cpu = _tokens(combinations, started, model, relay, plan, console, tested_core)
    rows = [Row(one, crowds.get(one), tokens.get(one)) for one in combinations]
    return Report(plan, instances, machine(), relay_cpu, _loading_cpu_seconds() if with_builds else None, rows)


def _loading_cpu_seconds() -> float:
    """What a worker pays once that comes to serve all frameworks."""
    ended = subprocess.run([sys.executable, "-c", LOADING], stdout=subprocess.PIPE, check=True)
    return float(ended.stdout)


def _gathered(crowd: Crowd, core: int) -> CrowdResult:
    """A crowd in a process of its own, alone on a core."""
    command = [sys.executable, "-m", "tests.benchmarks.crowd"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        os.sched_setaffinity(process.pid, {core})
        output, _ = process.communicate(msgspec.json.encode(crowd))
    if process.returncode:
        raise SystemExit(f"{crowd.combination} could not be measured")
    return msgspec.json.decode(output.splitlines()[-1], type=CrowdResult)


def _tokens(
    combinations: Sequence[Combination],
    started: stack.StartedStack,
    model: BenchModel,
    relay: Relay,
    plan: Plan,
    console: Console,
    core: int,
) -> tuple[dict[Combination, Tokens], float]:
    """All rounds, the relay in each, and the relay's own figure."""
    targets = asyncio.run(_seeded(combinations, started, model.url + "/v1", plan))
    plain, direct = relay.target(plan), model.target(plan)
    for pid in (plain.pid, started.process("worker-1")[0]):
        processes.pin(pid, core)
    everything = [plain, *targets.values(), direct]
    for target in everything:
        warm_up(target, plan)
    rounds: dict[str, list[Sample]] = {target.name: [] for target in everything}
    for number in range(1, plan.rounds + 1):
        for target in everything:
            console.print(f"[dim]round {number} of {plan.rounds}: {target.name}[/]")
            rounds[target.name].append(sample(target, plan))
    yardstick, alone = median(rounds[plain.name]), median(rounds[direct.name])
    measured = {
        combination: _compared(median(rounds[target.name]), yardstick, alone, target)
        for combination, target in targets.items()
    }
    return measured, yardstick.cpu_us_per_token


def _compared(mid: Sample, relay: Sample, alone: Sample, target: Target) -> Tokens:
    return Tokens(
        cpu_us_per_token=mid.cpu_us_per_token,
        ratio=mid.cpu_us_per_token / relay.cpu_us_per_token if relay.cpu_us_per_token else 0.0,
        opening_p50_ms=mid.few_opening_p50_ms,
        added_p50_ms=mid.few_first_p50_ms - target.model_calls * alone.few_first_p50_ms,
        errors=mid.errors,
    )


async def _seeded(
    combinations: Sequence[Combination], started: stack.StartedStack, model_url: str, plan: Plan
) -> dict[Combination, Target]:
    """One instance with long answers and one with short ones of every combination, loaded by the worker."""
    async with aiohttp.ClientSession() as session:
        api = CadenceAPI(started.url, session)
        tenant = await stack.BenchTenant.create(
            api, started.secrets, model_url, package=scoped_package(), provider=PROVIDER
        )
        worker_pid, worker_url = started.process("worker-1")
        body = msgspec.json.encode({"message": "hello", "resource_id": RESOURCE_ID}).decode()
        targets: dict[Combination, Target] = {}
        for combination in combinations:
            urls = [
                f"{worker_url}{instance.path}/completion/stream"
                async for instance in _instances(tenant, combination, (plan.long_model, plan.short_model))
            ]
            name = str(combination)
            targets[combination] = Target(
                name, worker_pid, urls[0], body, urls[1], body, combination.model_calls, headers=api.headers
            )
        return targets


async def _instances(
    tenant: stack.BenchTenant, combination: Combination, models: Sequence[str]
) -> AsyncIterator[stack.Instance]:
    for model in models:
        yield await tenant.instance(
            f"{combination} {model}",
            DECIDING_MODEL,
            framework=combination.framework,
            mode=combination.mode,
            mode_config=combination.mode_config(model),
        )


def _show(report: Report, console: Console) -> None:
    plan = report.plan
    title = (
        f"{plan.clients} streams × {plan.tokens} tokens, {plan.gap_ms:g} ms apart, medians of {plan.rounds} rounds; "
        f"{report.instances} instances of each, shared models and plugin"
    )
    table = Table(title=title, caption=report.machine)
    table.add_column("combination", no_wrap=True)
    for column in (
        "CPU µs/token", "× relay", "metadata p50 ms", "first event +p50 ms", "import ms", "of CPU",
        "build p50 ms", "p99 ms", "KB/instance", "silence ms", "while building",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for row in report.rows:
        tokens, crowd = row.tokens, row.crowd
        of_tokens, of_builds = ["-"] * 4, ["-"] * 7
        if tokens:
            of_tokens = [f"{tokens.cpu_us_per_token:.1f}", f"{tokens.ratio:.2f}"]
            of_tokens += [f"{tokens.opening_p50_ms:.1f}", f"{tokens.added_p50_ms:.1f}"]
        if crowd:
            of_builds = [f"{crowd.import_ms:.0f}", f"{crowd.import_cpu_ms:.0f}"]
            of_builds += [f"{crowd.build_p50_ms:.2f}", f"{crowd.build_p99_ms:.2f}", f"{crowd.kb_per_instance:.0f}"]
            of_builds += [f"{crowd.quiet_silence_ms:.1f}", f"{crowd.during_silence_ms:.1f}"]
        table.add_row(str(row.combination), *of_tokens, *of_builds)
    console.print(table)
    if report.relay_cpu_us_per_token is not None:
        console.print(f"The relay takes {report.relay_cpu_us_per_token:.1f} µs of CPU per token.")
    if report.loading_cpu_seconds is not None:
        names = ", ".join(Framework)
        console.print(f"Loading {names} takes one process {report.loading_cpu_seconds:.1f} s of CPU.")
    if report.plan.tokens == QUICK.tokens:
        return  # No promise is kept or broken by a few tokens.
    for line in _remarks(report):
        console.print(line, style="red", highlight=False, markup=False)


def _remarks(report: Report) -> Iterator[str]:
    if report.loading_cpu_seconds is not None and report.loading_cpu_seconds > ALLOWED_LOADING_SECONDS:
        yield f"loading all frameworks took more than {ALLOWED_LOADING_SECONDS:g} s"
    for row in report.rows:
        for missed in row.misses:
            yield f"{row.combination}: {missed}"
        for why, count in (row.tokens.errors if row.tokens else {}).items():
            yield f"{row.combination}: {count} × {why}"
