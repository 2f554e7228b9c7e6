"""What the pool knows of one instance, and the lease that keeps a built orchestrator alive while a run uses it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from runtime_worker.engines.base import Orchestrator
from runtime_worker.engines.choices import ModelKey, typed_config
from runtime_worker.models.base import ModelClient
from runtime_worker.plugins.base import PluginBundle
from runtime_worker.pool.eviction import Holding
from shared.errors import DomainError, LLMConfigDisabled, OrchestratorBuildFailed, StoreUnavailable
from shared.orchestrator_config import AnyConfig
from shared.snapshots import InstanceChange, InstanceStatus, OrchestratorSnapshot, Tier
from shared.workers import InstanceState

Residency = Literal["cold", "warm", "hot"]


class Built(Protocol):
    """An orchestrator together with the shared parts it holds; `close` gives them back, once."""

    @property
    def orchestrator(self) -> Orchestrator: ...

    @property
    def models(self) -> Mapping[ModelKey, ModelClient]:
        """The models acquired for the instance."""
        ...

    @property
    def bundles(self) -> Sequence[PluginBundle]:
        """The plugin bundles acquired for the instance; other instances may hold them too."""
        ...

    @property
    def own_bytes(self) -> int:
        """What ends with this orchestrator, measured when it was built."""
        ...

    async def close(self) -> None: ...


class Generation:
    """One build of an instance. It outlives being replaced until its last lease ends, then it is closed.

    Its snapshot may be replaced by a newer one that would be built alike.
    """

    def __init__(
        self,
        built: Built,
        snapshot: OrchestratorSnapshot,
        *,
        close: "Callable[[Generation], None]",
        on_free: Callable[[], None],
    ) -> None:
        """`close` is called once, `on_free` whenever the last lease ended."""
        self.snapshot = snapshot
        # Rises above the snapshot's when a newer revision turns out to have the same configuration.
        self.revision = snapshot.revision
        self.bundles = tuple(built.bundles)
        self.holding = Holding(built.own_bytes, frozenset(map(id, self.bundles)))
        self._built = built
        self._close = close
        self._on_free = on_free
        self._leases = 0
        self._is_retired = False

    @property
    def orchestrator(self) -> Orchestrator:
        return self._built.orchestrator

    @property
    def models(self) -> Mapping[ModelKey, ModelClient]:
        return self._built.models

    @cached_property
    def config(self) -> AnyConfig:
        """The snapshot's, typed: read by the first run, and the same in any snapshot that takes its place."""
        return typed_config(self.snapshot)

    @property
    def is_leased(self) -> bool:
        return self._leases > 0

    def lease(self) -> "Lease":
        self._leases += 1
        return Lease(self)

    def retire(self) -> None:
        """No new lease will come. Safe to repeat."""
        if not self._is_retired:
            self._is_retired = True
            self._close_when_free()

    def release(self) -> None:
        self._leases -= 1
        self._close_when_free()
        if self._leases == 0:
            self._on_free()

    async def close(self) -> None:
        """Give the parts back. Only whoever was told to close it calls this, once."""
        await self._built.close()

    def _close_when_free(self) -> None:
        if self._is_retired and self._leases == 0:
            self._close(self)


class Lease:
    """A run's hold on one generation. `release` may be called more than once."""

    def __init__(self, generation: Generation) -> None:
        self._generation: Generation | None = generation
        self.orchestrator = generation.orchestrator
        self.models = generation.models
        self.snapshot = generation.snapshot
        self.config = generation.config

    def release(self) -> None:
        generation, self._generation = self._generation, None
        if generation is not None:
            generation.release()


class BuildFailure(msgspec.Struct, frozen=True):
    """Why the newest build failed and when another is worth trying (monotonic seconds)."""

    error: DomainError
    attempts: int
    retry_at: float

    def as_error(self, retry_after_seconds: float) -> DomainError:
        """What a request is told meanwhile: the few that say more than a failed build as such, the others as that."""
        told = (StoreUnavailable, LLMConfigDisabled)
        kind = next((kind for kind in told if isinstance(self.error, kind)), OrchestratorBuildFailed)
        return kind(self.error.detail, errors=self.error.errors, retry_after_seconds=retry_after_seconds)


class Entry:
    """One instance: cold with only the fields of its change, warm with its snapshot, hot with a generation."""

    __slots__ = (
        "build_stage",
        "building",
        "config_hash",
        "current",
        "failure",
        "instance_id",
        "is_unloaded",
        "last_used",
        "org_id",
        "pressed_until",
        "refreshing",
        "revision",
        "snapshot",
        "status",
        "tier",
        "waiting",
    )

    def __init__(self, change: InstanceChange, now: float) -> None:
        self.instance_id: UUID = change.instance_id
        self.org_id: UUID = change.org_id
        self.snapshot: OrchestratorSnapshot | None = None
        self.current: Generation | None = None
        self.failure: BuildFailure | None = None
        self.building: asyncio.Task[None] | None = None
        self.build_stage: str | None = None
        self.refreshing: asyncio.Task[None] | None = None
        self.last_used = now
        # Until then it is not built again without a request, because it had to make room.
        self.pressed_until = 0.0
        # How many requests wait for its build.
        self.waiting = 0
        self.take(change)

    def take(self, change: InstanceChange) -> None:
        self.revision: int = change.revision
        self.config_hash: str = change.config_hash
        self.status: InstanceStatus = change.status
        self.tier: Tier = change.tier
        self.is_unloaded: bool = change.is_unloaded

    @property
    def residency(self) -> Residency:
        if self.current is not None:
            return "hot"
        return "warm" if self.snapshot is not None else "cold"

    @property
    def may_serve(self) -> bool:
        return self.status == "active" and not self.is_unloaded

    @property
    def is_busy(self) -> bool:
        """Leased, waited for, or being built anew: not to be sent away."""
        return self.waiting > 0 or self.building is not None or (self.current is not None and self.current.is_leased)

    @property
    def is_current(self) -> bool:
        """Whether what is hot was built from the newest configuration."""
        return self.current is not None and self.current.snapshot.config_hash == self.config_hash

    @property
    def is_outdated(self) -> bool:
        """Whether what is hot needs no other build, and yet there is a newer snapshot of it: with other prices."""
        return self.current is not None and self.is_current and self.current.snapshot.revision < self.revision


class Reports(Protocol):
    """Takes what this worker does with instances. Returns at once; the registry is told elsewhere."""

    def tell(self, state: InstanceState) -> None: ...

    def forget(self, instance_id: UUID) -> None: ...


class SnapshotSource(Protocol):
    async def __call__(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        """Fetch the newest snapshot, or for a revision one that is no older than that.

        Raises NotFound for one that is gone and StoreUnavailable when nobody answers.
        """
        ...


class Builder(Protocol):
    async def build(self, snapshot: OrchestratorSnapshot) -> Built:
        """Raises OrchestratorBuildFailed or another DomainError that says why it cannot be built."""
        ...
