from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from control_plane.provider_models.schemas import ProviderModelBody, ProviderModelPatch, ProviderModelView
from control_plane.provider_models.service import ProviderModelService
from shared.errors import AlreadyExists
from shared.security.permissions import Permission


@post(
    "/",
    guards=[may(Permission.SYSTEM_PROVIDERS_WRITE)],
    opt=documented(AlreadyExists),
    summary="Add a model to the catalogue",
)
async def create_model(
    data: JSONBody[ProviderModelBody], provider_models: NamedDependency[ProviderModelService]
) -> Response[ProviderModelView]:
    model = await provider_models.create(data)
    return tagged(ProviderModelView.of(model), model.revision, status_code=201)


@get("/", guards=[may(Permission.SYSTEM_PROVIDERS_READ)], summary="List the model catalogue")
async def list_models(
    provider_models: NamedDependency[ProviderModelService], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[ProviderModelView]:
    rows = await provider_models.page(after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda model: model.id, show=ProviderModelView.of)


@get("/{model_id:uuid}", guards=[may(Permission.SYSTEM_PROVIDERS_READ)], summary="Show a model of the catalogue")
async def get_model(
    model_id: FromPath[UUID], provider_models: NamedDependency[ProviderModelService]
) -> Response[ProviderModelView]:
    model = await provider_models.get(model_id)
    return tagged(ProviderModelView.of(model), model.revision)


@patch("/{model_id:uuid}", guards=[may(Permission.SYSTEM_PROVIDERS_WRITE)], summary="Change a model or its prices")
async def change_model(
    model_id: FromPath[UUID],
    data: JSONBody[ProviderModelPatch],
    provider_models: NamedDependency[ProviderModelService],
    if_match: IfMatch = None,
) -> Response[ProviderModelView]:
    model = await provider_models.change(model_id, data, if_match=if_match)
    return tagged(ProviderModelView.of(model), model.revision)


@delete("/{model_id:uuid}", guards=[may(Permission.SYSTEM_PROVIDERS_WRITE)], summary="Remove a model")
async def delete_model(
    model_id: FromPath[UUID], provider_models: NamedDependency[ProviderModelService], if_match: IfMatch = None
) -> None:
    await provider_models.delete(model_id, if_match=if_match)


router = Router(
    "/api/admin/providers/models",
    route_handlers=[create_model, list_models, get_model, change_model, delete_model],
    tags=["providers"],
)
