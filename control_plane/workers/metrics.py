"""The fleet as the control plane sees it, for whoever scales it from one place."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from shared.workers import WorkerRecord


class FleetMetrics:
    """Sums over what workers say of themselves; `take` sets them anew."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._workers = Gauge("cadence_fleet_workers", "Live workers.", ("state",), registry=registry)
        self._active = Gauge("cadence_fleet_active_runs", "Runs going on in all live workers.", registry=registry)
        self._capacity = Gauge(
            "cadence_fleet_run_capacity", "Runs that the workers which take requests run at once.", registry=registry
        )
        self._hot = Gauge("cadence_fleet_hot_instances", "Built orchestrators in all live workers.", registry=registry)

    def take(self, records: Iterable[WorkerRecord]) -> None:
        workers = list(records)
        serving = [worker for worker in workers if worker.is_serving]
        draining = sum(worker.draining for worker in workers)
        self._workers.labels("serving").set(len(serving))
        self._workers.labels("draining").set(draining)
        self._workers.labels("joining").set(len(workers) - len(serving) - draining)
        self._active.set(sum(worker.active_runs for worker in workers))
        self._capacity.set(sum(worker.capacity for worker in serving))
        self._hot.set(sum(worker.hot for worker in workers))
