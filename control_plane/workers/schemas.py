from datetime import datetime
from typing import Self
from uuid import UUID

import msgspec

from shared.workers import InstanceState, LoadState, PluginCircuit, WorkerRecord


class InstanceView(msgspec.Struct):
    """What a worker last did with one instance: `revision` is the newest it knows, `served_revision` what runs get."""

    instance_id: UUID
    org_id: UUID
    state: LoadState
    revision: int
    config_hash: str
    updated_at: datetime
    reason: str | None
    served_revision: int | None
    served_config_hash: str | None


class WorkerView(msgspec.Struct):
    """One live worker process. `capacity` is how many runs it takes at once.

    `plugin_hosts` counts its plugin processes; `plugin_circuits` are the plugins whose process crashed there. `rss_mb`
    is what the worker has resident and `hosts_mb` what its plugin processes have; `pool_mb` of it is held by built
    orchestrators, of the `pool_limit_mb` that they may hold. `build_queue` are those waiting to be built.
    All changes up to `observed_revision` have reached it.
    """

    worker_id: str
    url: str
    version: str
    started_at: datetime
    draining: bool
    active_runs: int
    capacity: int
    rss_mb: float
    hot: int
    warm: int
    cold: int
    plugin_hosts: int
    plugin_circuits: tuple[PluginCircuit, ...]
    shared_models: int
    shared_bundles: int
    shared_templates: int
    hosts_mb: float
    pool_mb: float
    pool_limit_mb: float
    build_queue: int
    observed_revision: int
    instances: list[InstanceView]

    @classmethod
    def of(cls, record: WorkerRecord, states: list[InstanceState]) -> Self:
        fields = {name: getattr(record, name) for name in cls.__struct_fields__ if name != "instances"}
        return cls(**fields, instances=[InstanceView(**msgspec.structs.asdict(state)) for state in states])


class PoolStatsView(msgspec.Struct):
    """Totals over the live workers, as each said last.

    `estimated_memory_mb` is what they and their plugins' processes have resident; pages that processes share count for
    each. `pool_mb` is the part of it that built orchestrators hold.
    """

    cold_count: int
    warm_count: int
    hot_count: int
    shared_models: int
    shared_bundles: int
    shared_templates: int
    estimated_memory_mb: float
    pool_mb: float
    build_queue: int
    workers: list[WorkerView]
