"""The pool of orchestrators of this process: which instances exist, which are built, and who uses them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec

from runtime_worker.pool.builds import Builds
from runtime_worker.pool.entry import Builder, Entry, Lease, Reports, SnapshotSource
from runtime_worker.pool.eviction import PoolLimits, choose_cooling
from runtime_worker.pool.index import PoolIndex
from runtime_worker.pool.preparation import NOTHING, Preparation, Prewarming
from runtime_worker.pool.room import Room
from shared.clock import Clock
from shared.errors import NotFound, OrchestratorDeactivated, OrchestratorNotLoaded, StoreUnavailable
from shared.ids import new_id
from shared.snapshots import InstanceChange, OrchestratorSnapshot

MOST_AT_ONCE = 4
"""Snapshots that are fetched because of what events told."""

NO_SUCH_INSTANCE = "no such orchestrator"


class PoolCounts(msgspec.Struct, frozen=True):
    hot: int
    warm: int
    cold: int


class OrchestratorPool:
    """Everything here runs in one event loop, and state changes only between awaits, so there are no locks.

    `owns` tells whether this worker keeps the hot-tier instance of that id built without being asked;
    `on_built` is called after every build, with `replaces`: whether an earlier one goes for it.
    """

    def __init__(
        self,
        builder: Builder,
        fetch: SnapshotSource,
        clock: Clock,
        reports: Reports,
        *,
        limits: PoolLimits,
        owns: Callable[[UUID], bool],
        prewarming: Prewarming = NOTHING,
        on_built: Callable[..., None] = lambda **_: None,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._reports = reports
        self._limits = limits
        self._owns = owns
        self._index = PoolIndex()
        self._builds = Builds(
            self._index,
            builder,
            fetch,
            clock,
            reports,
            take_snapshot=self._take_snapshot,
            on_gone=lambda instance_id: self._forget(instance_id, self._index.known_revision(instance_id)),
            on_built=on_built,
            make_room=lambda: self._room.make_if_full(),
            on_free=lambda: self._room.make_if_over(),
        )
        self._room: Room = Room(self._index, self._builds, clock, reports, limits, self._is_pinned)
        self._preparation = Preparation(self._index, prewarming, self._build_pinned, self._fetch_snapshot)
        self._used: set[UUID] = set()
        self._has_started = False

    # --- what the change feed tells ---

    def apply(self, change: InstanceChange) -> None:
        """Take in a change. One that is not newer than what is known changes nothing."""
        if change.revision <= self._index.known_revision(change.instance_id):
            return
        if change.is_deleted:
            self._forget(change.instance_id, change.revision)
            return
        entry = self._index.take(change, self._clock.monotonic())
        # Whatever failed may work now: an explicit load or reload raises the revision too.
        entry.failure = None
        entry.pressed_until = 0.0
        if entry.snapshot is not None and entry.snapshot.revision != entry.revision:
            self._index.set_snapshot(entry, None)
        if not entry.may_serve:
            self._builds.retire(entry)
            self._builds.report(entry, "unloaded")
        elif entry.current is not None and entry.is_current:
            entry.current.revision = entry.revision
            self._builds.report(entry, "ready")
            self._builds.refresh(entry)
        elif self._wants_build(entry):
            # After the start a change is somebody's wish, and what was not used for longest makes room for it.
            self._start(entry, at_once=self._has_started)
        elif entry.building is None:
            # Loaded on demand only: neither ready nor unloaded.
            self._reports.forget(entry.instance_id)

    async def fetch_serving(self, told: Mapping[UUID, int]) -> None:
        """Take in the newest snapshots of those that serve here and are older than the revision that was told.

        One that cannot be had is left to the change feed, and so are all when they are many.
        """
        behind = [one for one in told.items() if self._is_behind(*one)]
        if len(behind) <= MOST_AT_ONCE:
            await asyncio.gather(*(self._fetch_if_there(*one) for one in behind))

    def has_heard_of(self, instance_id: UUID, revision: int) -> bool:
        """Whether nothing that the instance was until this revision is news."""
        return self._index.known_revision(instance_id) >= revision

    def ownership_changed(self) -> None:
        """The set of live workers changed: build the hot-tier instances that are now ours."""
        for entry in list(self._index.hot_tier.values()):
            if self._wants_build(entry):
                self._start(entry)

    def source_is_back(self) -> None:
        """The control plane answers again: what failed for want of it need not wait any longer."""
        for entry in self._index.all():
            if entry.failure is not None and isinstance(entry.failure.error, StoreUnavailable):
                entry.failure = None

    async def build_share(self) -> None:
        """Until every hot-tier instance that is ours to keep is built, or was tried and cannot be, or none fits any
        more."""
        while missing := [entry for entry in self._index.hot_tier.values() if self._is_missing(entry)]:
            if not self._room.fits_another():
                return
            await asyncio.wait([self._builds.start(entry) for entry in missing])

    # --- what a run needs ---

    async def require(self, instance_id: UUID, org_id: UUID | None) -> Entry:
        """The entry of an instance of this organization that may serve. Builds nothing.

        Raises NotFound (unknown or another organization's), OrchestratorDeactivated, OrchestratorNotLoaded, and
        StoreUnavailable when an instance that is not known yet cannot be asked for.
        """
        known = self._index.find(instance_id)
        is_foreign = known is not None and org_id is not None and known.org_id != org_id
        if known is None or is_foreign:
            # Younger than the last look at the change feed. Another organization's is refused in the very words, and
            # after as long a way, as one that nobody has: an id is asked for that nobody has.
            try:
                await self._fetch_snapshot(new_id() if is_foreign else instance_id)
            except NotFound:
                raise NotFound(NO_SUCH_INSTANCE) from None
        return self._require_serving(instance_id, org_id)

    async def snapshot(self, instance_id: UUID, org_id: UUID) -> OrchestratorSnapshot:
        """The newest snapshot of an instance that may serve. Builds nothing. Raises what `require` raises."""
        entry = await self.require(instance_id, org_id)
        if entry.snapshot is None:
            await self._fetch_snapshot(instance_id)
            entry = self._require_serving(instance_id, org_id)
        if entry.snapshot is None:
            raise StoreUnavailable("the control plane does not show the newest configuration yet")
        return entry.snapshot

    async def lease(self, instance_id: UUID, org_id: UUID | None = None) -> Lease:
        """A hold on the built orchestrator; the caller releases it. Builds it first when nothing is built.

        Only the control plane, which has checked the organization itself, leaves it out. Raises what `require` raises,
        and OrchestratorBuildFailed with the reason.
        """
        entry = await self.require(instance_id, org_id)
        while (current := entry.current) is None:
            if entry.failure is not None:
                seconds = entry.failure.retry_at - self._clock.monotonic()
                if seconds > 0:
                    raise entry.failure.as_error(seconds)
            await self._builds.wait_for(entry)
            entry = self._require_serving(instance_id, org_id)
        entry.last_used = self._clock.monotonic()
        entry.pressed_until = 0.0
        self._used.add(instance_id)
        return current.lease()

    async def forget_organization(self, org_id: UUID) -> None:
        """Hold nothing of it any more, whatever the change feed told; returns when all its parts are given back."""
        for entry in self._index.all():
            if entry.org_id == org_id:
                self._forget(entry.instance_id, entry.revision)
        await self._builds.closed()

    # --- upkeep ---

    def explain_build(self, instance_id: UUID, stage: str) -> None:
        """Say what the build of an instance is waiting for, in words for its admin."""
        self._builds.explain(instance_id, stage)

    def maintain(self) -> None:
        """Retry what failed and is due, send what nobody uses to warm, drop snapshots nobody asked for."""
        self._room.make()
        for entry in list(self._index.hot.values()):
            if entry.is_outdated:
                self._builds.refresh(entry)
            if self._wants_build(entry):
                self._start(entry)
        if self._room.fits_another():
            for entry in self._index.hot_tier.values():
                if self._wants_build(entry):
                    self._start(entry)
        now = self._clock.monotonic()
        warm = [(instance_id, entry.last_used) for instance_id, entry in self._index.warm.items()]
        for instance_id in choose_cooling(warm, now, self._limits):
            self._index.set_snapshot(self._index.warm[instance_id], None)

    def remember(self, recently_used: Sequence[UUID]) -> None:
        """What was used last, here or elsewhere, the latest first: the order in which instances are prepared."""
        self._preparation.remember(recently_used)

    def prewarm(self) -> None:
        """Everything is known now: begin to fetch what shall be warm from the start."""
        self._has_started = True
        self._preparation.prewarm()

    def used_since(self) -> set[UUID]:
        """The instances that were leased since this was asked last."""
        used, self._used = self._used, set()
        return used

    @property
    def build_queue_length(self) -> int:
        """Instances that are to be built and wait for their turn."""
        return self._builds.waiting_count + self._preparation.waiting_count

    @property
    def hot_fill(self) -> float:
        """How full the pool is, by number or by memory; above 1 while busy orchestrators exceed a limit."""
        return self._room.hot_fill

    @property
    def memory_bytes(self) -> int:
        """What is built holds now, the processes of its plugins included."""
        return self._room.memory_bytes

    @property
    def is_prepared(self) -> bool:
        """Whether everything that shall be hot or warm without a request is, or has failed to be."""
        return self._preparation.is_done

    def counts(self) -> PoolCounts:
        hot, warm = len(self._index.hot), len(self._index.warm)
        return PoolCounts(hot=hot, warm=warm, cold=len(self._index) - hot - warm)

    def report_all(self) -> None:
        """Tell again what is built, being built, failed or unloaded, for a registry that may have lost it."""
        for entry in self._index.all():
            if not entry.may_serve:
                self._builds.report(entry, "unloaded")
            elif entry.building is not None:
                self._builds.report(entry, "building", entry.build_stage)
            elif entry.failure is not None:
                self._builds.report(entry, "failed", entry.failure.error.detail)
            elif entry.is_current:
                self._builds.report(entry, "ready")

    async def close(self) -> None:
        """Cancel builds, retire everything, and wait until what no run holds any more is closed."""
        await self._preparation.stop()
        await self._builds.stop()
        for entry in list(self._index.hot.values()):
            self._builds.retire(entry)
        await self._builds.closed()

    # --- rules ---

    def _wants_build(self, entry: Entry) -> bool:
        """Whether it should be built without a request: what is hot stays newest, what is pinned becomes hot."""
        if not entry.may_serve or entry.building is not None or entry.is_current:
            return False
        if entry.failure is not None and self._clock.monotonic() < entry.failure.retry_at:
            return False
        if entry.current is not None:
            return True
        return self._is_pinned(entry) and self._clock.monotonic() >= entry.pressed_until

    def _is_pinned(self, entry: Entry) -> bool:
        return entry.tier == "hot" and self._owns(entry.instance_id)

    def _is_missing(self, entry: Entry) -> bool:
        return entry.current is None and entry.failure is None and self._wants_build(entry)

    def _start(self, entry: Entry, *, at_once: bool = False) -> None:
        """Bring what serves up to date now, and build what is only pinned when there is a quiet moment and room."""
        if at_once or entry.current is not None:
            self._builds.start(entry)
        else:
            self._preparation.want(entry)

    async def _build_pinned(self, entry: Entry) -> bool:
        if not (self._index.holds(entry) and self._wants_build(entry)):
            return True
        if not self._room.fits_another():
            return False
        await asyncio.shield(self._builds.start(entry))
        return True

    def _is_behind(self, instance_id: UUID, revision: int) -> bool:
        return instance_id in self._index.hot and not self.has_heard_of(instance_id, revision)

    async def _fetch_if_there(self, instance_id: UUID, revision: int) -> None:
        with suppress(NotFound, StoreUnavailable):
            self._take_snapshot(await self._fetch(instance_id, revision))

    async def _fetch_snapshot(self, instance_id: UUID) -> None:
        self._take_snapshot(await self._fetch(instance_id))

    def _require_serving(self, instance_id: UUID, org_id: UUID | None) -> Entry:
        entry = self._index.find(instance_id)
        if entry is None or (org_id is not None and entry.org_id != org_id):
            raise NotFound(NO_SUCH_INSTANCE)
        if entry.status == "inactive":
            raise OrchestratorDeactivated
        if entry.status == "suspended":
            raise OrchestratorNotLoaded("the orchestrator is suspended")
        if entry.is_unloaded:
            raise OrchestratorNotLoaded
        return entry

    def _take_snapshot(self, snapshot: OrchestratorSnapshot) -> None:
        """Keep a snapshot. It may be newer than what the feed told so far, and then it is a change itself."""
        self.apply(
            InstanceChange(
                instance_id=snapshot.instance_id,
                org_id=snapshot.org_id,
                revision=snapshot.revision,
                config_hash=snapshot.config_hash,
                status=snapshot.status,
                tier=snapshot.tier,
                is_unloaded=snapshot.is_unloaded,
            )
        )
        entry = self._index.find(snapshot.instance_id)
        if entry is not None and entry.revision == snapshot.revision:
            entry.config_hash = snapshot.config_hash
            self._index.set_snapshot(entry, snapshot)

    def _forget(self, instance_id: UUID, revision: int) -> None:
        entry = self._index.find(instance_id)
        if entry is not None:
            self._builds.retire(entry)
        self._index.remove(instance_id, revision)
        self._reports.forget(instance_id)
