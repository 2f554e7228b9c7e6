"""The table at the end, and how long it took until somebody else took a lost run."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import percentile
from tests.chaos.faults import Faults
from tests.chaos.traffic import Traffic
from tests.chaos.verdict import Verdict

_EVENTS = frozenset({"run_taken_over", "run_restarted"})
SHOWN_VIOLATIONS = 60
AFTERMATH_SECONDS = 8.0
"""So long after an outage nobody is taken for lost, since everybody may renew first."""


class _Line(msgspec.Struct):
    event: str = ""
    timestamp: str = ""
    run_id: str = ""


class Takeover(msgspec.Struct, frozen=True):
    """`seconds` from the loss of a run's worker to its end, or its new beginning, at another one. `is_undisturbed`:
    the stores were there all the while."""

    how: str
    seconds: float
    is_undisturbed: bool


def takeovers(logs: list[Path], faults: Faults) -> list[Takeover]:
    found = []
    for line in _lines(logs):
        at = datetime.fromisoformat(line.timestamp).timestamp()
        lost = [strike.at for strike in faults.strikes if strike.at < at and line.run_id in strike.run_ids]
        if lost:
            is_undisturbed = not any(
                began < at and ended > lost[-1] - AFTERMATH_SECONDS for began, ended in faults.outages
            )
            found.append(Takeover(line.event, at - lost[-1], is_undisturbed))
    return found


def _lines(logs: list[Path]) -> Iterator[_Line]:
    for path in logs:
        for raw in path.read_bytes().splitlines():
            if b"run_taken_over" in raw or b"run_restarted" in raw:
                line = msgspec.json.decode(raw, type=_Line)
                if line.event in _EVENTS:
                    yield line


def show(
    console: Console,
    verdict: Verdict,
    traffic: Traffic,
    faults: Counter[str],
    changes: int,
    taken: list[Takeover],
    seconds: float,
) -> None:
    transcripts = traffic.transcripts
    table = Table(box=None, show_header=False)
    kinds = Counter[str](transcript.kind for transcript in transcripts if transcript.outcome or transcript.chat_error)
    table.add_row("runs", f"{verdict.runs} in {seconds:.0f} s")
    table.add_row("  as they ended", _counted(verdict.by_status))
    table.add_row("  failed, by class", _counted(verdict.by_error))
    table.add_row("  as they were asked for", _counted(kinds))
    table.add_row("connections tried again", str(sum(transcript.resumes for transcript in transcripts)))
    table.add_row("answers that were none", _counted(traffic.statuses))
    table.add_row("faults", _counted(faults))
    table.add_row("configurations changed", str(changes))
    for how in sorted(_EVENTS):
        times = [takeover.seconds for takeover in taken if takeover.how == how]
        table.add_row(how.replace("_", " "), _times(times))
    table.add_row(
        "  with all stores there", _times([takeover.seconds for takeover in taken if takeover.is_undisturbed])
    )
    cancels = [t.cancel_seconds for t in transcripts if t.cancel_seconds is not None]
    table.add_row("cancelled within", _times(cancels))
    table.add_row("violations", str(len(verdict.violations)))
    console.print(table)
    for violation in verdict.violations[:SHOWN_VIOLATIONS]:
        console.print(f"  {violation}", style="red", highlight=False, markup=False)


def _counted(counts: "Counter[str] | dict[str, int]") -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=lambda i: -i[1])) or "none"


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return f"{len(seconds)}, p50 {percentile(seconds, 50):.2f} s, p95 {percentile(seconds, 95):.2f} s"
