"""What a worker tells Prometheus: how much it has to do, which is what a fleet is scaled by, and what became of it."""

from collections.abc import Callable, Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from runtime_worker.conversations.base import TokenUsage
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.turn.run import RunTable
from shared.metrics import RequestMetrics


class RunMetrics:
    """Counts runs when they end; nothing here is called for a token."""

    def __init__(self, requests: RequestMetrics) -> None:
        registry = requests.registry
        self._runs = Counter(
            "cadence_runs",
            "Runs that ended in this worker. `handed_over` ones go on in another.",
            ("outcome", "code"),
            registry=registry,
        )
        self._tokens = Counter(
            "cadence_tokens", "Tokens of runs that ended; `cached` ones are input too.", ("kind",), registry=registry
        )
        self._tool_calls = Counter("cadence_tool_calls", "Tool calls that ended.", ("outcome",), registry=registry)

    def ended(self, outcome: str, code: str | None, usage: TokenUsage | None, *, tool_calls: int, errors: int) -> None:
        """`code` is that of the error a run failed with; `errors` of its tool calls did not succeed."""
        self._runs.labels(outcome, code or "").inc()
        if usage is not None:
            self._tokens.labels("input").inc(usage.input_tokens)
            self._tokens.labels("output").inc(usage.output_tokens)
            self._tokens.labels("cached").inc(usage.cached_tokens)
        if tool_calls:
            self._tool_calls.labels("succeeded").inc(tool_calls - errors)
            self._tool_calls.labels("failed").inc(errors)


class WorkerState(Collector):
    """Read when somebody asks, from where it is kept anyway."""

    def __init__(
        self, table: RunTable, pool: OrchestratorPool, max_hot_pool_size: int, is_serving: Callable[[], bool]
    ) -> None:
        self._table = table
        self._pool = pool
        self._max_hot_pool_size = max_hot_pool_size
        self._is_serving = is_serving

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts = self._pool.counts()
        is_serving = self._is_serving() and not self._table.is_draining
        yield GaugeMetricFamily("cadence_active_runs", "Runs that are going on.", len(self._table))
        yield GaugeMetricFamily("cadence_run_capacity", "Runs this worker takes at once.", self._table.capacity)
        yield GaugeMetricFamily(
            "cadence_build_queue", "Orchestrators waiting to be built.", self._pool.build_queue_length
        )
        yield GaugeMetricFamily("cadence_hot_capacity", "Orchestrators kept built at most.", self._max_hot_pool_size)
        residency = GaugeMetricFamily(
            "cadence_instances", "Instances by what of them is in memory.", labels=("residency",)
        )
        for name, count in (("hot", counts.hot), ("warm", counts.warm), ("cold", counts.cold)):
            residency.add_metric((name,), count)
        yield residency
        yield GaugeMetricFamily("cadence_serving", "1 while this worker takes requests.", int(is_serving))
