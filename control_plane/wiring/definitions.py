"""What orchestrators are built from: their definitions, credentials, prices and run-time settings."""

from uuid import UUID

from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.data_keys.service import DataKeys
from control_plane.llm_configs.probe import ProbeRequest
from control_plane.llm_configs.repository import LLMConfigRepository
from control_plane.llm_configs.service import LLMConfigService
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.saving import DefinitionSaver
from control_plane.provider_models.repository import ProviderModelRepository
from control_plane.provider_models.service import ProviderModelService
from control_plane.settings.repository import SettingsRepository
from control_plane.settings.service import SettingsService
from control_plane.wiring.resources import Resources
from control_plane.wiring.tiers import provide_quota


def definition_saver(session: AsyncSession, resources: Resources) -> DefinitionSaver:
    return DefinitionSaver(session=session, orchestrators=OrchestratorRepository(session), clock=resources.clock)


def data_keys(session: AsyncSession, resources: Resources) -> DataKeys:
    return DataKeys(session=session, wrapping=resources.key_wrapping)


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


def provide_run_time_settings(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> SettingsService:
    return SettingsService(
        session=session,
        settings=SettingsRepository(session),
        rebuild_affected=definition_saver(session, resources).rebuild_affected,
        clock=resources.clock,
    )
