"""Building instances: one build at a time for each, few at a time for all, beside what is still serving."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from runtime_worker.pool.entry import Builder, BuildFailure, Built, Entry, Generation, Reports, SnapshotSource
from runtime_worker.pool.eviction import retry_delay_seconds
from runtime_worker.pool.index import PoolIndex
from shared.clock import Clock
from shared.errors import DomainError, LLMConfigDisabled, NotFound, OrchestratorBuildFailed, StoreUnavailable
from shared.logging import get_logger
from shared.snapshots import OrchestratorSnapshot
from shared.workers import InstanceState, LoadState

PARALLEL_BUILDS = 2
"""Builds share the loop with live streams; more at once would not finish sooner, only stall them longer."""
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
    ) -> None:
        self._index = index
        self._builder = builder
        self._fetch = fetch
        self._clock = clock
        self._reports = reports
        self._take_snapshot = take_snapshot
        self._on_gone = on_gone
        self._on_built = on_built
        self._slots = asyncio.Semaphore(PARALLEL_BUILDS)
        self._fetch_slots = asyncio.Semaphore(PARALLEL_FETCHES)
        self._closing: set[asyncio.Task[None]] = set()

    def start(self, entry: Entry) -> "asyncio.Task[None]":
        """The one build of this instance: the running one if there is one. It never raises what the instance caused."""
        if entry.building is None:
            entry.building = asyncio.create_task(self._build(entry), name=f"build-{entry.instance_id}")
            self.report(entry, "building")
        return entry.building

    def refresh(self, entry: Entry) -> None:
        """Have runs that begin from now on see the newest snapshot of a build that stays as it is."""
        if entry.refreshing is None:
            entry.refreshing = asyncio.create_task(self._refresh(entry), name=f"refresh-{entry.instance_id}")

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
            )
        )

    async def stop(self) -> None:
        """Cancel what is being built or fetched."""
        tasks = [task for entry in self._index.all() for task in (entry.building, entry.refreshing)]
        running = [task for task in tasks if task is not None]
        for build in running:
            build.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def closed(self) -> None:
        """Wait until everything that no run holds any more has given its parts back."""
        while self._closing:
            await asyncio.wait(self._closing)

    async def _refresh(self, entry: Entry) -> None:
        try:
            while entry.is_outdated and self._index.holds(entry):
                async with self._fetch_slots:
                    snapshot = await self._fetch(entry.instance_id)
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
            while entry.may_serve and not entry.is_current and self._index.holds(entry):
                async with self._slots:
                    await self._build_once(entry)
        except NotFound:
            self._on_gone(entry.instance_id)
        except DomainError as error:
            self._note_failure(entry, error)
        except Exception as error:  # A plugin or an engine may raise anything; it must not take the pool along.
            log.exception("build_crashed", instance_id=str(entry.instance_id), org_id=str(entry.org_id))
            self._note_failure(entry, OrchestratorBuildFailed(f"building it ended in {type(error).__name__}"))
        finally:
            entry.building = entry.build_stage = None
        if entry.is_current and entry.may_serve and self._index.holds(entry):
            self.report(entry, "ready")

    async def _build_once(self, entry: Entry) -> None:
        snapshot = entry.snapshot
        is_fresh = snapshot is None or snapshot.config_hash != entry.config_hash
        if snapshot is None or is_fresh:
            snapshot = await self._fetch(entry.instance_id)
            if snapshot.revision < entry.revision:
                raise StoreUnavailable("the control plane does not show the newest configuration yet")
            self._take_snapshot(snapshot)
        if not entry.may_serve or not self._index.holds(entry):
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
        generation = Generation(built, snapshot, self._close_later)
        is_newer = entry.current is None or snapshot.revision > entry.current.revision
        if not (is_newer and entry.may_serve and self._index.holds(entry)):
            generation.retire()
            return
        if entry.config_hash == snapshot.config_hash:
            generation.revision = entry.revision
        replaced = self._index.set_current(entry, generation)
        entry.failure = None
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

    def _close_later(self, built: Built) -> None:
        task = asyncio.create_task(_close(built), name="close-orchestrator")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(built: Built) -> None:
    try:
        await built.close()
    except Exception:  # A plugin's clean-up may raise anything; nobody waits for it who could act on it.
        log.exception("orchestrator_close_failed")
