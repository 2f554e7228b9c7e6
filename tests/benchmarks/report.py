"""What was measured, as a table for people and as JSON for comparing runs."""

import os
import platform
from collections.abc import Mapping, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from deploy.stack.interpreter import is_optimised
from tests.benchmarks.builds import Builds
from tests.benchmarks.measure import Plan, Sample, Target, median


class Row(msgspec.Struct, frozen=True):
    """Medians over the rounds. `ratio` is CPU per token over the relay's in the same rounds.

    Times are those of two clients with short answers. `opening_p50_ms` is from the request to its `metadata` event: by
    then the caller is known and the message stored (0: the server sends none). `added_…` is from the request to the
    first `message` event, less what the model alone takes for as many calls as precede it: a supervisor's decision too.
    `next_p50_ms` is the same of a conversation's later turns, 0 where there are none.
    """

    server: str
    cpu_us_per_token: float
    ratio: float | None
    streams_per_core: float
    tokens_per_second: float
    opening_p50_ms: float
    added_p50_ms: float
    added_p99_ms: float
    next_p50_ms: float
    longest_silence_ms: float
    rss_base_mb: float
    rss_peak_mb: float
    errors: dict[str, int]


class Report(msgspec.Struct, frozen=True):
    plan: Plan
    machine: str
    rows: list[Row]
    builds: Builds | None
    rounds: dict[str, list[Sample]]


def row(
    target: Target, samples: Sequence[Sample], relay: Sample | None, direct: Sample, memory: tuple[float, float]
) -> Row:
    mid = median(samples)
    model_ms = target.model_calls * direct.few_first_p50_ms
    return Row(
        server=target.name,
        cpu_us_per_token=mid.cpu_us_per_token,
        ratio=mid.cpu_us_per_token / relay.cpu_us_per_token if relay else None,
        streams_per_core=mid.streams_per_core,
        tokens_per_second=mid.tokens_per_second,
        opening_p50_ms=mid.few_opening_p50_ms,
        added_p50_ms=mid.few_first_p50_ms - model_ms,
        added_p99_ms=mid.few_first_p99_ms - model_ms,
        next_p50_ms=mid.few_next_p50_ms - model_ms if mid.few_next_p50_ms else 0.0,
        longest_silence_ms=mid.longest_silence_ms,
        rss_base_mb=memory[0],
        rss_peak_mb=memory[1],
        errors=mid.errors,
    )


def machine() -> str:
    cores, python = os.cpu_count(), platform.python_version()
    how_built = "" if is_optimised() else " built without optimisations (others need less)"
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {python}{how_built}"


def show(report: Report, console: Console) -> None:
    plan = report.plan
    title = (
        f"{plan.clients} streams × {plan.tokens} tokens, {plan.gap_ms:g} ms apart, "
        f"medians of {plan.rounds} interleaved rounds"
    )
    table = Table(title=title, caption=report.machine)
    table.add_column("server")
    for column in (
        "CPU µs/token", "× relay", "streams/core at 50/s", "tokens/s", "metadata p50 ms", "first event +p50 ms",
        "+p99 ms", "next turn +p50 ms", "silence ms", "RSS base MB", "peak MB",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for r in report.rows:
        ratio = f"{r.ratio:.2f}" if r.ratio is not None else "-"
        numbers = (
            r.tokens_per_second, r.opening_p50_ms, r.added_p50_ms, r.added_p99_ms, r.next_p50_ms, r.longest_silence_ms
        )  # fmt: skip
        table.add_row(
            r.server, f"{r.cpu_us_per_token:.1f}", ratio, f"{r.streams_per_core:.0f}", f"{numbers[0]:.0f}",
            *(f"{n:.1f}" for n in numbers[1:]), f"{r.rss_base_mb:.0f}", f"{r.rss_peak_mb:.0f}",
        )  # fmt: skip
    console.print(table)
    if built := report.builds:
        console.print(
            f"{built.reloads} reloads beside live streams: build p50 {built.build_p50_ms:.1f} ms, "
            f"max {built.build_max_ms:.1f} ms; longest silence of a stream {built.during_silence_ms:.1f} ms "
            f"(p99 {built.during_silence_p99_ms:.1f}), without reloads {built.quiet_silence_ms:.1f} ms"
        )
    _show_errors({r.server: r.errors for r in report.rows} | ({"reloads": built.errors} if built else {}), console)


def _show_errors(errors: Mapping[str, Mapping[str, int]], console: Console) -> None:
    for server, counts in errors.items():
        for why, count in counts.items():
            console.print(f"[red]{server}: {count} × [/]", why, markup=True, highlight=False)
