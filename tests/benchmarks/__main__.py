"""See the package's docstring."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from rich.console import Console

from tests.benchmarks import builds, control_plane, engines, fleet, idle_streams, plugins, processes, report, stack
from tests.benchmarks.measure import Plan, Sample, median, sample, warm_up
from tests.benchmarks.servers import BenchModel, Relay

QUICK = Plan(clients=5, requests_per_client=1, tokens=20, gap_ms=1, few=4, rounds=1)
TABLE_COLUMNS = 160
"""How wide output is that goes to no terminal."""


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    match given:
        case ["plugins", *rest]:
            plugins.main(rest)
        case ["engines", *rest]:
            engines.main(rest)
        case ["fleet", *rest]:
            fleet.main(rest)
        case ["control-plane", *rest]:
            control_plane.main(rest)
        case ["idle", *rest]:
            idle_streams.main(rest)
        case ["streaming", *rest]:
            streaming(rest)
        case _:
            streaming(given)


def streaming(arguments: Sequence[str]) -> None:
    options = _parsed(arguments)
    plan = QUICK if options.quick else Plan()
    plan = msgspec.structs.replace(plan, rounds=options.rounds or plan.rounds)
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_COLUMNS)
    measured = measure(plan, console, with_worker=not options.relay_only)
    report.show(measured, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
        console.print(f"written to {options.json}")


def measure(plan: Plan, console: Console, *, with_worker: bool) -> report.Report:
    """Start everything, take all rounds, stop everything."""
    tested_core, other_core = processes.cores()
    # Whatever is started from here stays on the other core; servers under test are moved once they run.
    os.sched_setaffinity(0, {other_core})
    with ExitStack() as running:
        home = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="cadence-bench-")))
        model = BenchModel(home)
        running.callback(model.stop)
        model.start()
        relay = Relay(home, model.url + "/v1")
        running.callback(relay.stop)
        relay.start()
        targets = [relay.target(plan)]
        fleet = None
        if with_worker:
            fleet = running.enter_context(stack.running(home / "stack", model.url + "/v1", plan, console))
            targets += [fleet.worker(), fleet.gateway()]
        for target in targets:
            processes.pin(target.pid, other_core if fleet and target.pid == fleet.gateway_pid else tested_core)
        direct = model.target(plan)
        memory_before = {target.name: processes.rss_mb(target.pid) for target in targets}
        for target in targets:
            warm_up(target, plan)
        rounds: dict[str, list[Sample]] = {target.name: [] for target in [*targets, direct]}
        for number in range(1, plan.rounds + 1):
            for target in [*targets, direct]:
                console.print(f"[dim]round {number} of {plan.rounds}: {target.name}[/]")
                rounds[target.name].append(sample(target, plan, with_next_turns=True))
        memory = {t.name: (memory_before[t.name], processes.peak_rss_mb(t.pid)) for t in targets}
        built = None
        if fleet:
            console.print("[dim]reloads beside live streams[/]")
            built = builds.measure(fleet, plan, median(rounds["worker"]).longest_silence_ms)
    relay_median, direct_median = median(rounds["relay"]), median(rounds["model itself"])
    rows = [
        report.row(t, rounds[t.name], None if t is targets[0] else relay_median, direct_median, memory[t.name])
        for t in targets
    ]
    return report.Report(plan=plan, machine=report.machine(), rows=rows, builds=built, rounds=rounds)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks [streaming | plugins | engines | fleet | control-plane]"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds, 3 when left out")
    parser.add_argument(
        "--quick", action="store_true", help="a few tokens only, to see that it runs; no usable figures"
    )
    parser.add_argument("--relay-only", action="store_true", help="without the stack")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
