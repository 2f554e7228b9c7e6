"""What the process holds, and how each request's services are put together from it.

A feature adds a provider function here and its name to `DEPENDENCIES`; handlers then ask for that name.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from uuid import UUID

from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api_keys.records import keep_api_key_uses, load_api_key
from control_plane.api_keys.repository import APIKeyRepository
from control_plane.api_keys.service import APIKeyService
from control_plane.audit.retention import keep_retention
from control_plane.auth.grants import AccessChanges, load_grant
from control_plane.auth.passwords import Passwords
from control_plane.auth.service import AuthService
from control_plane.auth.throttle import LoginThrottle
from control_plane.central_points.repository import CentralPointRepository
from control_plane.central_points.service import CentralPointService
from control_plane.data_keys.service import DataKeys
from control_plane.database.commits import commit
from control_plane.database.engine import Database, create_engine, scoped
from control_plane.database.readers import Readers
from control_plane.events.background import stop_this_process
from control_plane.events.publisher import publisher_for
from control_plane.gateway.directory import WorkerDirectory
from control_plane.gateway.gateway import Gateway
from control_plane.health.service import Health, broker_check, postgres_check, redis_check
from control_plane.internal.feed import WorkerFeed
from control_plane.llm_configs.probe import ModelProbe, ProbeRequest
from control_plane.llm_configs.repository import LLMConfigRepository
from control_plane.llm_configs.service import LLMConfigService
from control_plane.members.repository import MemberRepository
from control_plane.members.service import MemberService
from control_plane.orchestrators.lifecycle import LifecycleService
from control_plane.orchestrators.plugins import InstancePlugins
from control_plane.orchestrators.readiness import Readiness
from control_plane.orchestrators.reading import OrchestratorReader
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.saving import DefinitionSaver
from control_plane.orchestrators.service import OrchestratorService
from control_plane.organizations.repository import OrganizationRepository
from control_plane.organizations.service import OrganizationService
from control_plane.plugins.catalogue import CatalogueRow
from control_plane.plugins.directories import DirectoryPlugin, DirectoryPlugins
from control_plane.plugins.mcp import MCPPlugins
from control_plane.plugins.mcp_discovery import MCPDiscovery
from control_plane.plugins.pending import PendingUploads, Upload
from control_plane.plugins.repository import PluginRepository
from control_plane.plugins.service import PluginService
from control_plane.plugins.settings import PluginSettings, PluginSettingsOf
from control_plane.plugins.uploads import UploadService
from control_plane.provider_models.repository import ProviderModelRepository
from control_plane.provider_models.service import ProviderModelService
from control_plane.purges.finishing import PurgeFinisher
from control_plane.purges.service import PurgeService
from control_plane.roles.repository import RoleRepository
from control_plane.roles.service import RoleService
from control_plane.settings.repository import SettingsRepository
from control_plane.settings.service import SettingsService
from control_plane.single_sign_on.attempts import LoginAttempts
from control_plane.single_sign_on.provider import OpenIDProvider
from control_plane.single_sign_on.repository import IdentityRepository
from control_plane.single_sign_on.service import SingleSignOn
from control_plane.tiers.limits import load_limits
from control_plane.tiers.quota import Quota
from control_plane.tiers.repository import TierRepository
from control_plane.tiers.service import TierService
from control_plane.usage.retention import keep_retention as keep_usage_retention
from control_plane.usage.stream import UsageCounter
from control_plane.users.repository import UserRepository
from control_plane.users.service import UserService
from control_plane.workers.client import WorkerClient
from control_plane.workers.service import FleetService
from shared.background import BackgroundTasks
from shared.clock import SystemClock
from shared.errors import NotFound, StoreUnavailable
from shared.limits.limiter import Limiter, LimitsInvalidator
from shared.limits.use import used_by
from shared.logging import get_logger
from shared.packages.environments import Environments
from shared.packages.inspection.inspector import Inspector
from shared.packages.inspection.preparation import Preparation, PreparedPackage
from shared.packages.opening import open_store
from shared.redis_line import LinedRedis
from shared.security.api_key_uses import APIKeyUses
from shared.security.api_keys import APIKeyCache
from shared.security.grants import GrantCache, GrantInvalidator
from shared.security.opening import open_wrapping
from shared.security.principals import Authenticator
from shared.security.sessions import SessionStore
from shared.security.tokens import TokenSigner
from shared.settings import ControlPlaneSettings, DirectoryPluginSettings
from shared.workers import WorkerRegistry

log = get_logger(__name__)

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
        self.database = Database(self.engine)
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
        self.uploads = PendingUploads(self.redis, self.preparation, partial(register_upload, self))
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
            tasks.start("usage-retention", keep_usage_retention(self.database, self.clock, days))
        if days := self.settings.audit_retention_days:
            tasks.start("audit-retention", keep_retention(self.database, self.clock, days))
        # This one ends when all of them are there.
        directories = self.settings.directory_plugins
        registering = asyncio.create_task(directory_plugins(self, directories).run()) if directories else None
        try:
            async with self.gateway.running():
                yield
        finally:
            await tasks.stop()
            if registering is not None:
                registering.cancel()
                await asyncio.gather(registering, return_exceptions=True)
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
            await self.engine.dispose()


def usage_counter(resources: Resources) -> UsageCounter:
    kept_days = resources.settings.usage_retention_days
    return UsageCounter(resources.redis, resources.database, resources.clock, kept_days=kept_days)


async def prune_environments(resources: Resources) -> None:
    """Until cancelled. An inspection uses its environment at once, so none is in use for long here."""
    while True:
        await resources.environments.prune(())
        await asyncio.sleep(PRUNE_SECONDS)


def create_redis(url: str) -> LinedRedis:
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
    )
    return cast("LinedRedis", LinedRedis.from_pool(pool))


def provide_resources(state: State) -> Resources:
    resources: Resources = state.resources
    return resources


def access_changes(session: AsyncSession, resources: Resources) -> AccessChanges:
    return AccessChanges(session, resources.invalidator, resources.sessions)


def data_keys(session: AsyncSession, resources: Resources) -> DataKeys:
    return DataKeys(session=session, wrapping=resources.key_wrapping)


def plugin_settings(session: AsyncSession, resources: Resources) -> PluginSettingsOf:
    async def of(owner: UUID | None) -> PluginSettings:
        return PluginSettings(await data_keys(session, resources).sealing(owner))

    return of


def provide_api_keys(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> APIKeyService:
    return APIKeyService(
        session=session,
        keys=APIKeyRepository(session),
        users=UserRepository(session),
        grants=resources.grants,
        access=access_changes(session, resources),
        clock=resources.clock,
    )


def provide_auth(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> AuthService:
    return AuthService(
        session=session,
        users=UserRepository(session),
        passwords=resources.passwords,
        throttle=resources.throttle,
        sessions=resources.sessions,
        tokens=resources.tokens,
        token_minutes=resources.settings.security.access_token_minutes,
    )


def provide_members(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> MemberService:
    return MemberService(
        session=session,
        members=MemberRepository(session),
        users=UserRepository(session),
        access=access_changes(session, resources),
        quota=provide_quota(session),
    )


def provide_roles(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> RoleService:
    return RoleService(
        session=session,
        roles=RoleRepository(session),
        users=UserRepository(session),
        members=provide_members(session, resources),
        access=access_changes(session, resources),
    )


def provide_users(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> UserService:
    return UserService(
        session=session,
        users=UserRepository(session),
        members=provide_members(session, resources),
        roles=provide_roles(session, resources),
        access=access_changes(session, resources),
        passwords=resources.passwords,
        throttle=resources.throttle,
    )


def provide_organizations(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> OrganizationService:
    return OrganizationService(
        session=session,
        organizations=OrganizationRepository(session),
        access=access_changes(session, resources),
        retire_instances=definition_saver(session, resources).retire_instances_of,
        shred_keys=data_keys(session, resources).shred,
        limits=resources.limits_invalidator,
        used_by=partial(used_by, resources.redis),
        clock=resources.clock,
        quota=provide_quota(session),
    )


def provide_single_sign_on(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> SingleSignOn:
    if resources.settings.single_sign_on is None:
        raise NotFound
    return SingleSignOn(
        settings=resources.settings.single_sign_on,
        identities=IdentityRepository(session),
        users=provide_users(session, resources),
        members=provide_members(session, resources),
        organizations=provide_organizations(session, resources),
        sessions=resources.sessions,
        token_minutes=resources.settings.security.access_token_minutes,
    )


def definition_saver(session: AsyncSession, resources: Resources) -> DefinitionSaver:
    return DefinitionSaver(session=session, orchestrators=OrchestratorRepository(session), clock=resources.clock)


def provide_orchestrators(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> OrchestratorService:
    orchestrators = OrchestratorRepository(session)
    return OrchestratorService(
        session=session,
        orchestrators=orchestrators,
        saver=definition_saver(session, resources),
        plugins=InstancePlugins(
            catalogue=provide_plugins(session, resources),
            settings=plugin_settings(session, resources),
            orchestrators=orchestrators,
        ),
        llm_configs=provide_llm_configs(session, resources),
        quota=provide_quota(session),
    )


def provide_central_points(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> CentralPointService:
    return CentralPointService(
        session=session,
        points=CentralPointRepository(session),
        clock=resources.clock,
        quota=provide_quota(session),
    )


def provide_plugins(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> PluginService:
    return PluginService(
        session=session,
        plugins=PluginRepository(session),
        rebuild_users=definition_saver(session, resources).rebuild_users_of_plugin,
        clock=resources.clock,
    )


def provide_plugin_uploads(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> UploadService:
    return UploadService(
        session=session,
        plugins=PluginRepository(session),
        catalogue=provide_plugins(session, resources),
        organizations=provide_organizations(session, resources),
        settings=plugin_settings(session, resources),
        store=resources.packages,
        quota=provide_quota(session),
    )


def provide_mcp_plugins(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> MCPPlugins:
    return MCPPlugins(
        session=session,
        plugins=PluginRepository(session),
        catalogue=provide_plugins(session, resources),
        organizations=provide_organizations(session, resources),
        settings=plugin_settings(session, resources),
        discovery=resources.mcp_discovery,
        allow_private=resources.settings.allow_private_model_hosts,
        quota=provide_quota(session),
    )


def directory_plugins(resources: Resources, settings: DirectoryPluginSettings) -> DirectoryPlugins:
    return DirectoryPlugins(
        settings, resources.preparation, partial(register_upload, resources), partial(is_registered, resources)
    )


async def is_registered(resources: Resources, plugin: DirectoryPlugin, digest: str) -> bool:
    async with resources.database(plugin.owner) as session:
        rows = await PluginRepository(session).own_versions(plugin.owner, plugin.pid)
    return any(row.version == plugin.version and row.digest == digest for row in rows)


async def register_upload(resources: Resources, upload: Upload, package: PreparedPackage) -> UUID:
    """Store an upload that no request waits for any more; the id of its row."""
    async with resources.database(upload.owner) as session:
        row, _ = await provide_plugin_uploads(session, resources).register(upload, package)
        await commit(session)
        return row.id


async def purge_package(resources: Resources, deleted: CatalogueRow) -> None:
    """Remove the package of a catalogue row whose deletion is committed. Bytes left behind harm nobody."""
    try:
        async with resources.database() as session:
            await provide_plugin_uploads(session, resources).purge(deleted)
    except (StoreUnavailable, OSError, SQLAlchemyError) as error:
        log.warning("package_not_purged", package_key=deleted.package_key, reason=type(error).__name__)


def provide_orchestrator_lifecycle(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> LifecycleService:
    return LifecycleService(orchestrators=OrchestratorRepository(session), saver=definition_saver(session, resources))


def provide_orchestrator_reader(resources: NamedDependency[Resources]) -> OrchestratorReader:
    return OrchestratorReader(resources.readers, resources.autocommit)


def provide_readiness(resources: NamedDependency[Resources]) -> Readiness:
    return Readiness(resources.registry)


def provide_feed(resources: NamedDependency[Resources]) -> WorkerFeed:
    return WorkerFeed(resources.engine)


def provide_fleet(resources: NamedDependency[Resources]) -> FleetService:
    return FleetService(resources.registry)


def provide_llm_configs(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> LLMConfigService:
    return LLMConfigService(
        session=session,
        configs=LLMConfigRepository(session),
        keys=data_keys(session, resources),
        allow_private_hosts=resources.settings.allow_private_model_hosts,
        rebuild_users=definition_saver(session, resources).rebuild_users_of_llm_config,
        quota=provide_quota(session),
    )


async def read_probe_request(resources: Resources, org_id: UUID, config_id: UUID) -> ProbeRequest:
    """What a test call of an LLM config needs, read in a transaction that is over before the call begins."""
    async with resources.database(org_id) as session:
        return await provide_llm_configs(session, resources).probe_request(org_id, config_id)


def provide_provider_models(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> ProviderModelService:
    return ProviderModelService(
        session=session,
        models=ProviderModelRepository(session),
        repriced=definition_saver(session, resources).reprice_users_of,
    )


def provide_tiers(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> TierService:
    return TierService(session=session, tiers=TierRepository(session), limits=resources.limits_invalidator)


def provide_quota(session: NamedDependency[AsyncSession]) -> Quota:
    return Quota(TierRepository(session))


def provide_purges(session: NamedDependency[AsyncSession]) -> PurgeService:
    return PurgeService(session=session)


def provide_run_time_settings(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> SettingsService:
    return SettingsService(
        session=session,
        settings=SettingsRepository(session),
        rebuild_affected=definition_saver(session, resources).rebuild_affected,
        clock=resources.clock,
    )


def _sync(provider: Any) -> Provide:
    return Provide(provider, sync_to_thread=False)


DEPENDENCIES: dict[str, Provide] = {
    "resources": _sync(provide_resources),
    "api_keys": _sync(provide_api_keys),
    "auth": _sync(provide_auth),
    "central_points": _sync(provide_central_points),
    "feed": _sync(provide_feed),
    "fleet": _sync(provide_fleet),
    "llm_configs": _sync(provide_llm_configs),
    "mcp_plugins": _sync(provide_mcp_plugins),
    "members": _sync(provide_members),
    "orchestrator_lifecycle": _sync(provide_orchestrator_lifecycle),
    "orchestrator_reader": _sync(provide_orchestrator_reader),
    "orchestrators": _sync(provide_orchestrators),
    "organizations": _sync(provide_organizations),
    "plugin_uploads": _sync(provide_plugin_uploads),
    "plugins": _sync(provide_plugins),
    "provider_models": _sync(provide_provider_models),
    "quota": _sync(provide_quota),
    "purges": _sync(provide_purges),
    "readiness": _sync(provide_readiness),
    "run_time_settings": _sync(provide_run_time_settings),
    "roles": _sync(provide_roles),
    "single_sign_on": _sync(provide_single_sign_on),
    "tiers": _sync(provide_tiers),
    "users": _sync(provide_users),
}
