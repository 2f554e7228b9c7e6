from litestar import Router
from litestar.di import NamedDependency
from litestar.params import FromPath

from control_plane.frameworks.schemas import FrameworkView, PromptView, ProviderView
from control_plane.http.guards import signed_in
from control_plane.http.handlers import get
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of, whole
from control_plane.provider_models.schemas import ProviderModelView
from control_plane.provider_models.service import ProviderModelService
from shared.frameworks import SUPPORTED_PROVIDERS, Framework, Mode, Provider
from shared.prompts import DEFAULT_PROMPTS


@get("/frameworks", guards=[signed_in], summary="Frameworks with their modes and providers")
async def list_frameworks() -> Page[FrameworkView]:
    return whole([FrameworkView.of(framework) for framework in Framework])


@get("/frameworks/{framework:str}/supported-providers", guards=[signed_in], summary="Providers of a framework")
async def supported_providers(framework: FromPath[Framework]) -> Page[ProviderView]:
    return whole([ProviderView.of(provider) for provider in SUPPORTED_PROVIDERS[framework]])


@get("/providers/{provider:str}/models", guards=[signed_in], summary="Models of a provider that may be chosen")
async def provider_models_of(
    provider: FromPath[Provider],
    provider_models: NamedDependency[ProviderModelService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[ProviderModelView]:
    rows = await provider_models.page_of_provider(provider, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda model: model.id, show=ProviderModelView.of)


@get("/engine/{mode:str}/prompts", guards=[signed_in], summary="Default prompts of a mode's nodes, with their slots")
async def prompts(mode: FromPath[Mode]) -> Page[PromptView]:
    """A `prompt_override` replaces one of them and has exactly its slots."""
    return whole([PromptView.of(node, template) for node, template in DEFAULT_PROMPTS[mode].items()])


router = Router(
    "/api", route_handlers=[list_frameworks, supported_providers, provider_models_of, prompts], tags=["providers"]
)
