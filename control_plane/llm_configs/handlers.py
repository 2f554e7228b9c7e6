from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from control_plane.llm_configs.schemas import LLMConfigBody, LLMConfigPatch, LLMConfigView, ProbeView
from control_plane.llm_configs.service import LLMConfigService
from control_plane.wiring import Resources
from control_plane.wiring.definitions import read_probe_request
from shared.errors import AlreadyExists, InUse, InvalidRequest, QuotaReached
from shared.security.permissions import Permission


@post(
    "/",
    guards=[may(Permission.ORG_LLM_CONFIGS_WRITE)],
    opt=documented(AlreadyExists, QuotaReached),
    summary="Store a model credential",
)
async def create(
    org_id: FromPath[UUID], data: JSONBody[LLMConfigBody], llm_configs: NamedDependency[LLMConfigService]
) -> Response[LLMConfigView]:
    config = await llm_configs.create(org_id, data)
    return tagged(LLMConfigView.of(config), config.revision, status_code=201)


@get("/", guards=[may(Permission.ORG_LLM_CONFIGS_READ)], summary="List model credentials, never their keys")
async def list_all(
    org_id: FromPath[UUID],
    llm_configs: NamedDependency[LLMConfigService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[LLMConfigView]:
    rows = await llm_configs.page(org_id, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda config: config.id, show=LLMConfigView.of)


@get("/{config_id:uuid}", guards=[may(Permission.ORG_LLM_CONFIGS_READ)], summary="Show a model credential")
async def get_one(
    org_id: FromPath[UUID], config_id: FromPath[UUID], llm_configs: NamedDependency[LLMConfigService]
) -> Response[LLMConfigView]:
    config = await llm_configs.get(org_id, config_id)
    return tagged(LLMConfigView.of(config), config.revision)


@patch(
    "/{config_id:uuid}",
    guards=[may(Permission.ORG_LLM_CONFIGS_WRITE)],
    opt=documented(AlreadyExists),
    summary="Change a model credential",
)
async def change(
    org_id: FromPath[UUID],
    config_id: FromPath[UUID],
    data: JSONBody[LLMConfigPatch],
    principal: NamedDependency[Principal],
    llm_configs: NamedDependency[LLMConfigService],
    if_match: IfMatch = None,
) -> Response[LLMConfigView]:
    """Orchestrators that use it are rebuilt while they go on serving."""
    config = await llm_configs.change(org_id, config_id, data, grant=principal.grant, if_match=if_match)
    return tagged(LLMConfigView.of(config), config.revision)


@delete(
    "/{config_id:uuid}",
    guards=[may(Permission.ORG_LLM_CONFIGS_WRITE)],
    opt=documented(InUse),
    summary="Delete a model credential nobody uses",
)
async def remove(
    org_id: FromPath[UUID],
    config_id: FromPath[UUID],
    llm_configs: NamedDependency[LLMConfigService],
    if_match: IfMatch = None,
) -> None:
    await llm_configs.delete(org_id, config_id, if_match=if_match)


@post(
    "/{config_id:uuid}/test",
    guards=[may(Permission.ORG_LLM_CONFIGS_WRITE)],
    opt=documented(InvalidRequest),
    status_code=200,
    summary="Make one real, cheap call with a model credential",
)
async def test(
    org_id: FromPath[UUID],
    config_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    resources: NamedDependency[Resources],
) -> ProbeView:
    """Members only: it uses the key. A failed call is an answer here, not an error."""
    principal.grant.require_key_use()
    # Not the request's own transaction: no connection is held while a provider takes its time.
    request = await read_probe_request(resources, org_id, config_id)
    return await resources.model_probe.run(request)


router = Router(
    "/api/orgs/{org_id:uuid}/llm-configs",
    route_handlers=[create, list_all, get_one, change, remove, test],
    tags=["llm configs"],
)
