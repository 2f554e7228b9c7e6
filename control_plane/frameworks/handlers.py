from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from control_plane.frameworks.schemas import FrameworkView, ProviderView
from control_plane.http.guards import signed_in
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of, whole
from control_plane.provider_models.schemas import ProviderModelView
from control_plane.provider_models.service import ProviderModelService
from shared.frameworks import SUPPORTED_PROVIDERS, Framework, Provider


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


router = Router("/api", route_handlers=[list_frameworks, supported_providers, provider_models_of], tags=["providers"])
