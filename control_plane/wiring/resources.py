"""What lives as long as the process, and what goes on beside its requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from litestar.datastructures import State
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from control_plane.api_keys.records import keep_api_key_uses, load_api_key
from control_plane.audit.retention import prune as prune_audit
from control_plane.auth.grants import load_grant
from control_plane.auth.passwords import Passwords
from control_plane.auth.throttle import LoginThrottle
from control_plane.database.engine import Database, create_engine, scoped
from control_plane.database.kept import KeptConnections
from control_plane.database.readers import Readers
from control_plane.database.retention import keep_pruned
from control_plane.events.background import stop_this_process
from control_plane.events.publisher import publisher_for
from control_plane.gateway.directory import WorkerDirectory
from control_plane.gateway.gateway import Gateway
from control_plane.health.service import Health, broker_check, postgres_check, redis_check
from control_plane.internal.feed import WorkerFeed
from control_plane.llm_configs.probe import ModelProbe
from control_plane.plugins.mcp_discovery import MCPDiscovery
from control_plane.plugins.pending import PendingUploads
from control_plane.purges.finishing import PurgeFinisher
from control_plane.single_sign_on.attempts import LoginAttempts
from control_plane.single_sign_on.provider import OpenIDProvider
from control_plane.tiers.limits import load_limits
from control_plane.usage.counted import load_counted
from control_plane.usage.retention import prune as prune_usage
from control_plane.usage.stream import UsageCounter
from control_plane.workers.client import WorkerClient
from shared.background import BackgroundTasks
from shared.clock import SystemClock
from shared.limits.limiter import Limiter, LimitsInvalidator
from shared.packages.environments import Environments
from shared.packages.inspection.inspector import Inspector
from shared.packages.inspection.preparation import Preparation
from shared.packages.opening import open_store
from shared.redis_line import DRIVER, LineRedis
from shared.security.api_key_uses import APIKeyUses
from shared.security.api_keys import APIKeyCache
from shared.security.grants import GrantCache, GrantInvalidator
from shared.security.opening import open_wrapping
from shared.security.principals import Authenticator
from shared.security.sessions import SessionStore
from shared.security.tokens import TokenSigner
from shared.settings import ControlPlaneSettings
from shared.workers import WorkerRegistry

REDIS_CONNECTIONS = 64
REDIS_SECONDS = 3.0
PRUNE_SECONDS = 3600.0


class Resources:
    """Everything that lives as long as the process. Nothing connects before it is used."""

    def __init__(self, settings: ControlPlaneSettings, on_death: Callable[[], None] = stop_this_process) -> None:
        """`on_death` is called when a background task ends by itself, which is a bug."""
        self.settings = settings
        self._on_death = on_death
        self.clock = SystemClock()
        self.engine = create_engine(settings.postgres_url)
        # Single reads that need no transaction: no BEGIN and no COMMIT around them.
        self.autocommit = scoped(self.engine.execution_options(isolation_level="AUTOCOMMIT"), None)
        self.readers = Readers(settings.postgres_url)
        self.kept = KeptConnections(self.engine)
        self.database = Database(self.engine, self.kept, self.readers)
        self.worker_feed = WorkerFeed(self.readers, self.engine)
        self.redis = create_redis(settings.redis_url)
        self.keyring = settings.security.keyring
        self.key_wrapping = open_wrapping(settings.security)
        self.api_key_uses = APIKeyUses(self.redis, self.clock)
        self.tokens = TokenSigner(settings.security.secret_key, settings.security.jwt_algorithm)
        self.sessions = SessionStore(self.redis, self.clock)
        self.grants = GrantCache(self.redis, partial(load_grant, self.autocommit))
        self.limiter = Limiter(
            self.redis,
            self.clock,
            partial(load_limits, self.autocommit),
            counted=partial(load_counted, self.autocommit),
            when_uncounted=settings.limits.when_uncounted,
            requests_per_minute=settings.limits.requests_per_minute,
        )
        self.limits_invalidator = LimitsInvalidator(self.redis)
        self.authenticator = Authenticator(
            clock=self.clock,
            tokens=self.tokens,
            sessions=self.sessions,
            grants=self.grants,
            api_keys=APIKeyCache(self.redis, partial(load_api_key, self.autocommit)),
            uses=self.api_key_uses,
            limiter=self.limiter,
        )
        self.invalidator = GrantInvalidator(self.redis)
        self.passwords = Passwords()
        self.throttle = LoginThrottle(self.redis)
        self.registry = WorkerRegistry(self.redis, self.clock)
        self.gateway = Gateway(WorkerDirectory(self.registry, self.clock), settings.trusted_proxies)
        self.worker_client = WorkerClient(self.gateway, settings.security.worker_token)
        self.model_probe = ModelProbe(allow_private=settings.allow_private_model_hosts)
        self.mcp_discovery = MCPDiscovery(allow_private=settings.allow_private_model_hosts)
        self.login_attempts = LoginAttempts(self.redis)
        self.openid_provider = OpenIDProvider(settings.single_sign_on) if settings.single_sign_on else None
        self.packages = open_store(settings.packages)
        self.environments = Environments(settings.package_cache / "environments", index_url=settings.packages.index_url)
        inspector = Inspector(self.environments, needs_walls=settings.process.is_production)
        self.preparation = Preparation(inspector, self.environments, index_url=settings.packages.index_url)
        self.uploads = PendingUploads(self.redis, self.preparation)
        self._health_publisher = publisher_for(settings.broker_url)
        limits = {"limits": self.limiter.can_count}
        refuses_uncounted = settings.limits.when_uncounted == "closed"
        self.purge_finisher = PurgeFinisher(
            database=self.database,
            redis=self.redis,
            packages=self.packages,
            make_publisher=partial(publisher_for, settings.broker_url),
        )
        self.health = Health(
            needed={
                "postgres": postgres_check(self.autocommit),
                "redis": redis_check(self.redis),
                **(limits if refuses_uncounted else {}),
            },
            # Without the broker changes reach the workers later: the outbox keeps them, and workers ask for revisions.
            useful={
                "broker": broker_check(self._health_publisher),
                "packages": self.packages.check,
                **({} if refuses_uncounted else limits),
            },
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close what was opened when the application stops."""
        tasks = BackgroundTasks(on_death=self._on_death)
        tasks.start("environments", prune_environments(self))
        tasks.start("api-key-uses", keep_api_key_uses(self.api_key_uses, self.autocommit))
        tasks.start("usage", usage_counter(self).run())
        tasks.start("purges", self.purge_finisher.run())
        if days := self.settings.usage_retention_days:
            tasks.start("usage-retention", keep_pruned("usage", partial(prune_usage, self.database, self.clock, days)))
        if days := self.settings.audit_retention_days:
            tasks.start("audit-retention", keep_pruned("audit", partial(prune_audit, self.database, self.clock, days)))
        try:
            async with self.gateway.running():
                yield
        finally:
            await tasks.stop()
            await self.api_key_uses.tell()
            await self.uploads.close()
            await self.model_probe.close()
            if self.openid_provider is not None:
                await self.openid_provider.close()
            await self._health_publisher.stop()
            await self.packages.close()
            await asyncio.to_thread(self.environments.workplaces.close)
            await self.key_wrapping.close()
            await self.redis.aclose()
            await self.readers.close()
            await self.kept.close()
            await self.engine.dispose()


def create_redis(url: str) -> Redis:
    """A client that waits a bounded time for everything: a slot of the pool, the connection and an answer.

    One immediate retry, on a fresh connection, hides a server restart from whoever comes next.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=REDIS_SECONDS,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 1),
        driver_info=DRIVER,
    )
    return LineRedis.from_pool(pool)


def usage_counter(resources: Resources) -> UsageCounter:
    kept_days = resources.settings.usage_retention_days
    return UsageCounter(resources.redis, resources.database, resources.clock, kept_days=kept_days)


async def prune_environments(resources: Resources) -> None:
    """Until cancelled. An inspection uses its environment at once, so none is in use for long here."""
    while True:
        await resources.environments.prune(())
        await asyncio.sleep(PRUNE_SECONDS)


def provide_resources(state: State) -> Resources:
    resources: Resources = state.resources
    return resources
