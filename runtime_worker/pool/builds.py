"""Building instances: one build at a time for each, few at a time for all, beside what is still serving."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from runtime_worker.pool.entry import Builder, BuildFailure, Built, Entry, Generation, Reports, SnapshotSource
from runtime_worker.pool.eviction import Memory, retry_delay_seconds
from runtime_worker.pool.index import PoolIndex
from runtime_worker.pool.slots import BuildSlots, Urgency
from shared.clock import Clock
from shared.errors import DomainError, LLMConfigDisabled, NotFound, OrchestratorBuildFailed, StoreUnavailable
from shared.logging import get_logger
from shared.snapshots import OrchestratorSnapshot
from shared.workers import InstanceState, LoadState

PARALLEL_FETCHES = 4
"""Of snapshots that nobody waits for: a new price of a popular model concerns every instance at once."""

log = get_logger(__name__)


class Builds:
    """Starts builds, puts their results in place and closes what they replaced. Owns every task it starts."""

    def __init__(
        self,
        index: PoolIndex,
        builder: Builder,
        fetch: SnapshotSource,
        clock: Clock,
        reports: Reports,
        *,
        take_snapshot: Callable[[OrchestratorSnapshot], None],
        on_gone: Callable[[UUID], None],
        on_built: Callable[..., None],
        make_room: Callable[[], None],
        on_free: Callable[[], None],
    ) -> None:
        """`make_room` is called after every build and must be cheap, `on_free` when the last run let go of one."""
        self._index = index
        self._builder = builder
        self._fetch = fetch
        self._clock = clock
        self._reports = reports
        self._take_snapshot = take_snapshot
        self._on_gone = on_gone
        self._on_built = on_built
        self._make_room = make_room
        self._on_free = on_free
        self._slots = BuildSlots()
        self._fetch_slots = asyncio.Semaphore(PARALLEL_FETCHES)
        self._open: set[Generation] = set()
        self._closing: set[asyncio.Task[None]] = set()
        # Of entries too that the index has dropped meanwhile.
        self._running: set[asyncio.Task[None]] = set()

    @property
    def waiting_count(self) -> int:
        """Builds that wait for their turn."""
        return self._slots.waiting_count

    @property
    def used_bytes(self) -> int:
        """The same as of `memory`, for those who ask at every build."""
        bundles = {id(bundle): bundle for generation in self._open for bundle in generation.bundles}
        own_bytes = sum(generation.holding.own_bytes for generation in self._open)
        return own_bytes + sum(bundle.resident_bytes for bundle in bundles.values())

    def memory(self) -> Memory:
        """What all builds hold that may serve or have a run, replaced ones included."""
        parts = {id(bundle): bundle.resident_bytes for generation in self._open for bundle in generation.bundles}
        return Memory((generation.holding for generation in self._open), parts)

    def start(self, entry: Entry) -> "asyncio.Task[None]":
        """The one build of this instance: the running one if there is one. It never raises what the instance caused."""
        if entry.building is None:
            entry.building = self._own(self._build(entry), f"build-{entry.instance_id}")
            self.report(entry, "building")
        return entry.building

    def refresh(self, entry: Entry) -> None:
        """Have runs that begin from now on see the newest snapshot of a build that stays as it is."""
        if entry.refreshing is None:
            entry.refreshing = self._own(self._refresh(entry), f"refresh-{entry.instance_id}")

    async def wait_for(self, entry: Entry) -> None:
        """Build it because a request needs it."""
        build = self.start(entry)
        entry.waiting += 1
        self._slots.hurry(entry)
        try:
            await asyncio.shield(build)
        except asyncio.CancelledError:
            entry.waiting -= 1
            self._on_free()
            raise
        # Nobody is told: it is about to be leased, and must not be sent away before that.
        entry.waiting -= 1

    def explain(self, instance_id: UUID, stage: str) -> None:
        """Tell what a build that takes long is waiting for."""
        entry = self._index.find(instance_id)
        if entry is not None and entry.building is not None:
            entry.build_stage = stage
            self.report(entry, "building", stage)

    def retire(self, entry: Entry) -> None:
        """Stop leasing what is hot; it is closed once the last run lets go of it."""
        replaced = self._index.set_current(entry, None)
        if replaced is not None:
            replaced.retire()

    def report(self, entry: Entry, state: LoadState, reason: str | None = None) -> None:
        self._reports.tell(
            InstanceState(
                instance_id=entry.instance_id,
                org_id=entry.org_id,
                state=state,
                revision=entry.revision,
                config_hash=entry.config_hash,
                updated_at=self._clock.now(),
                reason=reason,
                served_revision=entry.current.revision if entry.current else None,
                served_config_hash=entry.current.snapshot.config_hash if entry.current else None,
            )
        )

    async def stop(self) -> None:
        """Cancel what is being built or fetched."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def closed(self) -> None:
        """Wait until everything that no run holds any more has given its parts back."""
        while self._closing:
            await asyncio.wait(self._closing)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _refresh(self, entry: Entry) -> None:
        try:
            while entry.is_outdated and self._index.holds(entry):
                snapshot = entry.snapshot
                if snapshot is None or snapshot.revision < entry.revision:
                    async with self._fetch_slots:
                        snapshot = await self._fetch(entry.instance_id, entry.revision)
                if snapshot.revision < entry.revision:
                    raise StoreUnavailable("the control plane does not show the newest configuration yet")
                self._take_snapshot(snapshot)
                current = entry.current
                if current is not None and current.snapshot.config_hash == snapshot.config_hash:
                    current.snapshot = snapshot
        except NotFound:
            self._on_gone(entry.instance_id)
        except StoreUnavailable:
            # Upkeep tries again.
            log.info("snapshot_not_refreshed", instance_id=str(entry.instance_id), revision=entry.revision)
        finally:
            entry.refreshing = None

    async def _build(self, entry: Entry) -> None:
        """Build until what is hot is what is newest, or it turns out that this cannot be."""
        try:
            may_go_on = True
            while may_go_on and entry.may_serve and not entry.is_current and self._index.holds(entry):
                async with self._slots.one(entry, entry.org_id, _urgency(entry)):
                    may_go_on = await self._try(entry)
        finally:
            entry.building = entry.build_stage = None
        if entry.is_current and entry.may_serve and self._index.holds(entry):
            self.report(entry, "ready")
        self._make_room()

    async def _try(self, entry: Entry) -> bool:
        """One attempt; whether another is worth it at once, should what is hot not be what is newest yet."""
        revision = entry.revision
        try:
            await self._build_once(entry)
        except NotFound:
            self._on_gone(entry.instance_id)
            return False
        except DomainError as error:
            failure = error
        except Exception as error:  # A plugin or an engine may raise anything; it must not take the pool along.
            log.exception("build_crashed", instance_id=str(entry.instance_id), org_id=str(entry.org_id))
            failure = OrchestratorBuildFailed(f"building it ended in {type(error).__name__}")
        else:
            return True
        if entry.revision > revision:
            # It says nothing of what the instance has become meanwhile.
            log.info("build_outdated", instance_id=str(entry.instance_id), revision=revision, code=failure.code)
            return True
        self._note_failure(entry, failure)
        return False

    async def _build_once(self, entry: Entry) -> None:
        snapshot = entry.snapshot
        is_fresh = snapshot is None or snapshot.config_hash != entry.config_hash
        if snapshot is None or is_fresh:
            # Whoever waits for the first build may have changed it a moment ago, and wants to see that.
            at_least = 0 if entry.current is None else entry.revision
            snapshot = await self._fetch(entry.instance_id, at_least)
            if snapshot.revision < entry.revision:
                raise StoreUnavailable("the control plane does not show the newest configuration yet")
            self._take_snapshot(snapshot)
        # What was fetched may be newer than what the feed told, and again what serves.
        if not entry.may_serve or entry.is_current or not self._index.holds(entry):
            return
        started = self._clock.monotonic()
        try:
            built = await self._builder.build(snapshot)
        except OrchestratorBuildFailed:
            if is_fresh:
                raise
            # What was kept may be sealed with keys that were rotated since, which is no change of the configuration.
            snapshot = await self._fetch(entry.instance_id)
            self._take_snapshot(snapshot)
            built = await self._builder.build(snapshot)
        log.info(
            "orchestrator_built",
            instance_id=str(entry.instance_id),
            org_id=str(entry.org_id),
            revision=snapshot.revision,
            config_hash=snapshot.config_hash,
            duration_ms=round((self._clock.monotonic() - started) * 1000, 1),
        )
        self._put_in_place(entry, built, snapshot)

    def _put_in_place(self, entry: Entry, built: Built, snapshot: OrchestratorSnapshot) -> None:
        """Serve the new build, unless the world has moved past it while it was made."""
        generation = Generation(built, snapshot, close=self._close_later, on_free=self._on_free)
        self._open.add(generation)
        is_newer = entry.current is None or snapshot.revision > entry.current.revision
        if not (is_newer and entry.may_serve and self._index.holds(entry)):
            generation.retire()
            return
        if entry.config_hash == snapshot.config_hash:
            generation.revision = entry.revision
        replaced = self._index.set_current(entry, generation)
        entry.failure = None
        if replaced is None:
            # Or what was built after a long sleep would be the first to make room.
            entry.last_used = self._clock.monotonic()
        self._on_built(replaces=replaced is not None)
        if replaced is not None:
            replaced.retire()

    def _note_failure(self, entry: Entry, error: DomainError) -> None:
        attempts = entry.failure.attempts + 1 if entry.failure else 1
        entry.failure = BuildFailure(error, attempts, self._clock.monotonic() + retry_delay_seconds(attempts))
        if isinstance(error, LLMConfigDisabled):
            # Whoever disables a leaked key wants its use to end now, not at the next successful build.
            self.retire(entry)
        log.warning(
            "build_failed",
            instance_id=str(entry.instance_id),
            org_id=str(entry.org_id),
            revision=entry.revision,
            code=error.code,
            reason=error.detail,
            attempts=attempts,
            keeps_serving=entry.current is not None,
        )
        if self._index.holds(entry) and entry.may_serve:
            self.report(entry, "failed", error.detail)

    def _close_later(self, generation: Generation) -> None:
        # It still holds its parts, but nothing more can be done about that.
        self._open.discard(generation)
        task = asyncio.create_task(_close(generation), name="close-orchestrator")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(generation: Generation) -> None:
    try:
        await generation.close()
    except Exception:  # A plugin's clean-up may raise anything; nobody waits for it who could act on it.
        log.exception("orchestrator_close_failed")


def _urgency(entry: Entry) -> Urgency:
    if entry.waiting:
        return Urgency.REQUESTED
    return Urgency.PREPARED if entry.current is None else Urgency.SERVING
