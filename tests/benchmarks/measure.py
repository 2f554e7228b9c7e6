"""One measurement: a load against one server, and what the server used for it."""

import statistics
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from tests.benchmarks import processes
from tests.benchmarks.load import Load, LoadResult

PAUSE_MS = 40
"""About as long as one of the short answers takes."""
STREAM_TOKENS_PER_SECOND = 50
"""How fast a usual model writes, for the estimate of streams per core."""


class Target(msgspec.Struct, frozen=True):
    """A server under test. `model_calls` is how many calls of the model precede its first token, that one included."""

    name: str
    pid: int
    url: str
    body: str
    quick_url: str
    quick_body: str
    model_calls: int
    mark: str = "event: message"
    headers: dict[str, str] = {}


class Sample(msgspec.Struct, frozen=True):
    """One round of one server."""

    cpu_us_per_token: float
    streams_per_core: float
    tokens_per_second: float
    first_p50_ms: float
    first_p99_ms: float
    few_opening_p50_ms: float
    few_first_p50_ms: float
    few_first_p99_ms: float
    few_next_p50_ms: float
    longest_silence_ms: float
    errors: dict[str, int]


class Plan(msgspec.Struct, frozen=True):
    """How much to ask for. `few` is how many requests two clients send for the time to the first event."""

    clients: int = 50
    requests_per_client: int = 3
    tokens: int = 200
    gap_ms: float = 5
    few: int = 100
    rounds: int = 3

    @property
    def long_model(self) -> str:
        return f"bench-t{self.tokens}-d{self.gap_ms:g}"

    @property
    def short_model(self) -> str:
        return f"bench-t5-d{self.gap_ms:g}"


def send(load: Load) -> LoadResult:
    """Run a load in a process of its own, on this process's core."""
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    ended = subprocess.run(command, input=msgspec.json.encode(load), stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(ended.stdout, type=LoadResult)


def many(target: Target, plan: Plan) -> Load:
    """The load that CPU per token is measured with."""
    return Load(
        url=target.url,
        body=target.body,
        clients=plan.clients,
        requests=plan.clients * plan.requests_per_client,
        tokens=plan.tokens,
        mark=target.mark,
        headers=target.headers,
    )


def few(target: Target, plan: Plan) -> Load:
    """Two clients and short answers, so that nothing queues and only the way through the server counts.

    The clients pause: answers take all equally long, so without it both would ask at the same moment all the time, and
    one would always be measured behind the other.
    """
    return Load(
        url=target.quick_url,
        body=target.quick_body,
        clients=2,
        requests=plan.few,
        tokens=5,
        mark=target.mark,
        headers=target.headers,
        pause_ms=PAUSE_MS,
    )


def next_turns(target: Target, plan: Plan) -> Load:
    """The same, with all but the first turns of two conversations."""
    return msgspec.structs.replace(few(target, plan), goes_on=True)


def warm_up(target: Target, plan: Plan) -> None:
    """Connections, caches and lazy imports are paid before the first round."""
    send(msgspec.structs.replace(many(target, plan), requests=plan.clients))
    send(msgspec.structs.replace(few(target, plan), requests=4))


def sample(target: Target, plan: Plan, *, with_next_turns: bool = False) -> Sample:
    """One round of `target`."""
    before = processes.cpu_seconds(target.pid)
    result = send(many(target, plan))
    used_seconds = processes.cpu_seconds(target.pid) - before
    quick = send(few(target, plan))
    # Whoever opens a stream knows conversations.
    next_turn = send(next_turns(target, plan)) if with_next_turns and quick.opening_ms else None
    cpu_us = used_seconds * 1e6 / max(result.tokens, 1)
    return Sample(
        cpu_us_per_token=cpu_us,
        streams_per_core=1e6 / (cpu_us * STREAM_TOKENS_PER_SECOND) if cpu_us else 0.0,
        tokens_per_second=result.tokens / result.seconds,
        first_p50_ms=percentile(result.first_ms, 50),
        first_p99_ms=percentile(result.first_ms, 99),
        few_opening_p50_ms=percentile(quick.opening_ms, 50),
        few_first_p50_ms=percentile(quick.first_ms, 50),
        few_first_p99_ms=percentile(quick.first_ms, 99),
        few_next_p50_ms=percentile(next_turn.first_ms, 50) if next_turn else 0.0,
        longest_silence_ms=max(result.longest_silence_ms, default=0.0),
        errors=_added(_added(result.errors, quick.errors), next_turn.errors if next_turn else {}),
    )


def median(samples: Sequence[Sample]) -> Sample:
    """Field by field; errors are added up."""
    errors: dict[str, int] = {}
    for one in samples:
        errors = _added(errors, one.errors)
    numbers = {
        name: statistics.median(getattr(one, name) for one in samples)
        for name in Sample.__struct_fields__
        if name != "errors"
    }
    return Sample(**numbers, errors=errors)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {why: one.get(why, 0) + other.get(why, 0) for why in {**one, **other}}
