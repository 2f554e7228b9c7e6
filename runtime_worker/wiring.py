"""Every part of a worker, put together once, opened in order and closed in reverse."""

import asyncio
import hmac
from collections.abc import Callable
from importlib.metadata import version

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runtime_worker.consumers.base import EventConsumer, listener_for
from runtime_worker.control_plane_client import ControlPlaneClient
from runtime_worker.conversations.databases import mongo_client
from runtime_worker.conversations.mongo import MongoConversationStore
from runtime_worker.conversations.retention import Retention
from runtime_worker.conversations.service import ConversationService
from runtime_worker.engines.registry import shared_template_count
from runtime_worker.metrics import WorkerState
from runtime_worker.pool.central_points import CentralPoints, PointLookup
from runtime_worker.pool.entry import Builder
from runtime_worker.pool.eviction import MB, PoolLimits
from runtime_worker.pool.heap import Heap
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.pool.preparation import Prewarming
from runtime_worker.pool.reconciler import Reconciler
from runtime_worker.purges import Purges
from runtime_worker.shared_parts import SharedParts
from runtime_worker.topology import Topology, rss_mb
from runtime_worker.turn.parts import TurnParts
from runtime_worker.turn.reservations import Reservations
from runtime_worker.turn.run import RunTable
from runtime_worker.usage_sweep import UsageSweep
from shared.background import BackgroundTasks
from shared.clock import Clock, SystemClock
from shared.ids import new_id
from shared.limits.buckets import TokenBuckets
from shared.limits.limiter import Limiter
from shared.logging import get_logger
from shared.metrics import RequestMetrics
from shared.redis_line import DRIVER, LineRedis
from shared.security.api_key_uses import APIKeyUses
from shared.security.api_keys import APIKeyCache
from shared.security.conversation_tokens import ConversationTokens
from shared.security.grants import GrantCache
from shared.security.organizations import OrganizationStates
from shared.security.principals import Authenticator
from shared.security.sessions import SessionStore
from shared.security.tokens import TokenSigner
from shared.settings import WorkerSettings
from shared.workers import WorkerRecord, WorkerRegistry

REDIS_SECONDS = 2.0
"""How long a request waits for Redis before it is answered 503."""

REDIS_CONNECTIONS = 4_096
"""Whoever waits for an answer has one to themselves: with the client's own hundred a burst would be told that Redis is
away."""

FIRST_SYNC_SECONDS = 3.0
SAVE_ON_EXIT_SECONDS = 10.0
JOIN_SECONDS = 15.0
"""How long a new worker builds its part of the hot instances before it takes requests; the rest comes as it serves."""

log = get_logger(__name__)


def redis_client(url: str) -> "Redis":
    """One retry covers a connection that went stale while idle; more would only hide that Redis is away."""
    return LineRedis.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        socket_connect_timeout=REDIS_SECONDS,
        socket_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=30,
        driver_info=DRIVER,
    )


class Worker:
    """One worker process. `builder` is what makes orchestrators; without one they are made of shared real parts."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        builder: Builder | None = None,
        clock: Clock | None = None,
        metrics: RequestMetrics | None = None,
        on_death: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.metrics = metrics = metrics or RequestMetrics()
        self.worker_id = f"worker-{new_id().hex[-12:]}"
        self._clock = clock = clock or SystemClock()
        self._started_at = clock.now()
        self._version = version("cadence")
        self._background = BackgroundTasks(on_death)

        self.redis = redis_client(settings.redis_url)
        self._mongo = mongo_client(settings.mongo_url)
        self.store = MongoConversationStore(self._mongo)
        self.control_plane = ControlPlaneClient(settings.control_plane_url, settings.security.worker_token)

        self._api_key_uses = APIKeyUses(self.redis, clock)
        self.limiter = Limiter(
            self.redis,
            clock,
            self.control_plane.limits,
            counted=self.control_plane.counted,
            when_uncounted=settings.limits.when_uncounted,
            requests_per_minute=settings.limits.requests_per_minute,
        )
        self.reservations = Reservations(self.redis, clock)
        self.authenticator = Authenticator(
            clock=clock,
            tokens=TokenSigner(settings.security.secret_key, settings.security.jwt_algorithm),
            sessions=SessionStore(self.redis, clock),
            grants=GrantCache(self.redis, self.control_plane.grant),
            api_keys=APIKeyCache(self.redis, self.control_plane.api_key),
            uses=self._api_key_uses,
            limiter=self.limiter,
        )

        # For guests of public central points, who have no grant.
        self.organizations = OrganizationStates(self.redis, self.control_plane.organization)
        self.buckets = TokenBuckets(self.redis)
        self.conversation_tokens = ConversationTokens(settings.security.secret_key, clock)

        self.table = RunTable(settings.serving.max_concurrent_runs)
        self._heap = Heap(is_idle=lambda: len(self.table) == 0)
        self._parts = SharedParts(settings)
        self.topology = Topology(
            WorkerRegistry(self.redis, clock),
            self.worker_id,
            settings.public_url,
            self._describe,
            replication=settings.pool.hot_replication,
        )
        self.pool = OrchestratorPool(
            builder or self._parts.builder,
            self.control_plane.snapshot,
            clock,
            self.topology,
            limits=PoolLimits(
                settings.pool.max_hot_pool_size,
                settings.pool.demand_ttl_seconds,
                settings.pool.warm_ttl_seconds,
                settings.pool.memory_mb * MB,
            ),
            owns=self.topology.owns,
            prewarming=Prewarming(settings.pool.prewarm, settings.pool.prewarm_count),
            on_built=self._heap.built,
        )
        self.topology.on_membership = self.pool.ownership_changed
        self.topology.report_all = self.pool.report_all
        self.topology.used_since = self.pool.used_since
        self._parts.bundles.on_installing = self.pool.explain_build
        self.central_points = CentralPoints()
        self.reconciler = Reconciler(self.pool, self.central_points, self.control_plane.changes, self._heap)
        self.points = PointLookup(self.central_points, self.reconciler.look)
        self.reconciler.on_observed = self.topology.observed
        self.events = EventConsumer(
            listener_for(settings.broker_url, self.worker_id, self.reconciler.hint, self.reconciler.poke),
            on_connected=self.reconciler.poke,
        )

        self.retention = Retention(self._mongo, self.control_plane.retention, self.topology.leads)
        self.usage_sweep = UsageSweep(
            self.redis,
            self.store,
            self.control_plane.retention,
            self.control_plane.uncounted,
            self.topology.leads,
            clock,
        )
        self._turning = turning = TurnParts(
            settings,
            self.worker_id,
            self.redis,
            self.store,
            self.table,
            self.pool,
            self.limiter,
            self.reservations,
            lambda: self.topology.has_others,
            metrics,
            clock,
        )
        self.turns, self.runs, self.replays = turning.service, turning.runs, turning.replays
        self.repeats, self.handover = turning.repeats, turning.handover
        metrics.registry.register(
            WorkerState(self.table, self.pool, settings.pool.max_hot_pool_size, lambda: self.topology.is_serving)
        )
        self._hurry = asyncio.Event()
        self._joining: asyncio.Task[None] | None = None
        self.purges = Purges(
            worker_id=self.worker_id,
            source=self.control_plane,
            owns=self.topology.leads,
            pool=self.pool,
            bundles=self._parts.bundles,
            table=self.table,
            backlog=turning.backlog,
            store=self.store,
            redis=self.redis,
        )
        self.conversations = ConversationService(self.store, turning.locks)

    @property
    def plugins_without_environment(self) -> tuple[str, ...]:
        """Plugins whose dependencies are being installed here, or lately could not be."""
        return self._parts.hosts.without_environment

    def is_worker_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.settings.security.worker_token.encode())

    async def open(self) -> None:
        """Ready to serve when it returns, or as ready as the stores allow: none of them has to be up."""
        await self.control_plane.open()
        await self._parts.open()
        # Who else is there decides which hot instances are ours, so it comes before the first look at the feed.
        await self.topology.beat()
        self.pool.remember(await self.topology.recently_used())
        start = self._background.start
        start("heartbeat", self.topology.run())
        start("reconciler", self.reconciler.run())
        start("events", self.events.run())
        start("plugin-upkeep", self._parts.bundles.upkeep())
        for name, work in self._turning.upkeep().items():
            start(name, work)
        start("reservations", self.reservations.run())
        start("retention", self.retention.run())
        start("purges", self.purges.run())
        start("usage-sweep", self.usage_sweep.run())
        start("plugin-hosts", self._parts.hosts.watch())
        start("api-key-uses", self._api_key_uses.run())
        try:
            async with asyncio.timeout(FIRST_SYNC_SECONDS):
                await self.reconciler.wait_until_caught_up()
        except TimeoutError:
            pass
        self._heap.started()
        if self.topology.has_others:
            self._joining = asyncio.create_task(self._join(), name="join")
        else:
            # There is nobody better to send a request to.
            await self.topology.serve()

    async def _join(self) -> None:
        """Build what will be ours to keep while the others still serve it, then take requests."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self.reconciler.wait_until_caught_up()
                await self.pool.build_share()
        except TimeoutError:
            log.warning("joined_before_all_was_built")
        await self.topology.serve()
        log.info("joined", seconds=round(self._clock.monotonic() - started, 2), hot=self.pool.counts().hot)

    async def drain(self) -> None:
        """Fail readiness and say so in the registry first, then let live streams finish, then hand over the rest."""
        self.table.refuse()
        await self.topology.beat()
        await self.table.drain(self.settings.serving.drain_seconds, self._hurry)
        # Once more, because others may have come or gone meanwhile.
        await self.topology.beat()
        await self.handover.run()
        self.replays.close()

    def hurry(self) -> None:
        """Somebody does not want to wait until all streams have finished."""
        self._hurry.set()

    async def close(self) -> None:
        """After `drain`: store what is not stored, leave the registry, let go of everything."""
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.gather(self._joining, return_exceptions=True)
        if not self.table.is_draining:
            await self.drain()
        await self._turning.backlog.drain(SAVE_ON_EXIT_SECONDS)
        await self._background.stop()
        await self.reservations.close()
        await self._api_key_uses.tell()
        await self.topology.leave()
        await self.events.stop()
        await self.pool.close()
        await self._parts.close()
        await self.control_plane.close()
        await self.store.close()
        await self._mongo.close()
        await self.redis.aclose()

    def _describe(self) -> WorkerRecord:
        counts = self.pool.counts()
        return WorkerRecord(
            worker_id=self.worker_id,
            url=self.settings.public_url,
            version=self._version,
            started_at=self._started_at,
            draining=self.table.is_draining,
            active_runs=len(self.table),
            capacity=self.table.capacity,
            rss_mb=round(rss_mb(), 1),
            hot=counts.hot,
            warm=counts.warm,
            cold=counts.cold,
            shared_models=self._parts.model_count,
            shared_bundles=self._parts.bundle_count,
            shared_templates=shared_template_count(),
            plugin_hosts=self._parts.hosts.running_count,
            plugin_circuits=self._parts.hosts.circuits,
            joining=not self.topology.is_serving,
            hosts_mb=round(self._parts.hosts.resident_bytes / MB, 1),
            pool_mb=round(self.pool.memory_bytes / MB, 2),
            pool_limit_mb=self.settings.pool.memory_mb,
            build_queue=self.pool.build_queue_length,
            observed_revision=self.reconciler.observed_revision,
        )
