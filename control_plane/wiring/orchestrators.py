"""Orchestrators, what is published of them, and the workers that run them."""

from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.central_points.repository import CentralPointRepository
from control_plane.central_points.service import CentralPointService
from control_plane.internal.feed import WorkerFeed
from control_plane.orchestrators.lifecycle import LifecycleService
from control_plane.orchestrators.plugins import InstancePlugins
from control_plane.orchestrators.readiness import Readiness
from control_plane.orchestrators.reading import OrchestratorReader
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.service import OrchestratorService
from control_plane.wiring.definitions import definition_saver, provide_llm_configs
from control_plane.wiring.plugins import plugin_settings, provide_plugins
from control_plane.wiring.resources import Resources
from control_plane.wiring.tiers import provide_quota
from control_plane.workers.service import FleetService


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


def provide_orchestrator_lifecycle(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> LifecycleService:
    return LifecycleService(orchestrators=OrchestratorRepository(session), saver=definition_saver(session, resources))


def provide_orchestrator_reader(resources: NamedDependency[Resources]) -> OrchestratorReader:
    return OrchestratorReader(resources.readers, resources.autocommit)


def provide_readiness(resources: NamedDependency[Resources]) -> Readiness:
    return Readiness(resources.registry)


def provide_feed(resources: NamedDependency[Resources]) -> WorkerFeed:
    return resources.worker_feed


def provide_fleet(resources: NamedDependency[Resources]) -> FleetService:
    return FleetService(resources.registry)
