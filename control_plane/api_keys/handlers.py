from datetime import timedelta
from typing import Annotated
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from control_plane.api_keys.schemas import (
    APIKeyBody,
    APIKeyPatch,
    APIKeyView,
    NewAPIKeyView,
    RotationBody,
    UserAPIKeyBody,
)
from control_plane.api_keys.service import APIKeyService
from control_plane.api_keys.tables import APIKey
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from shared.errors import Conflict, NotFound
from shared.security.permissions import Permission

NO_STORE = {"Cache-Control": "no-store"}
OfUser = Annotated[UUID | None, QueryParameter(name="user_id", description="Only the keys of this user.")]


@post(
    "/",
    guards=[may(Permission.PROFILE_WRITE)],
    opt=documented(NotFound, Conflict),
    summary="Make an API key",
)
async def create(
    data: JSONBody[APIKeyBody], principal: NamedDependency[Principal], api_keys: NamedDependency[APIKeyService]
) -> Response[NewAPIKeyView]:
    """Needs a session: a key makes no keys."""
    principal.require_session()
    return _shown_once(*await api_keys.create(principal.user_id, data))


@get("/", guards=[may(Permission.PROFILE_WRITE)], summary="List my API keys")
async def list_mine(
    principal: NamedDependency[Principal],
    api_keys: NamedDependency[APIKeyService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[APIKeyView]:
    rows = await api_keys.page(user_id=principal.user_id, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda key: key.id, show=APIKeyView.of)


@post(
    "/{key_id:uuid}/rotate",
    guards=[may(Permission.PROFILE_WRITE)],
    opt=documented(Conflict),
    summary="Replace one of my API keys by a new one",
)
async def rotate(
    key_id: FromPath[UUID],
    data: JSONBody[RotationBody],
    principal: NamedDependency[Principal],
    api_keys: NamedDependency[APIKeyService],
) -> Response[NewAPIKeyView]:
    """Both work until the overlap is over."""
    principal.require_session()
    overlap = timedelta(seconds=data.overlap_seconds)
    return _shown_once(*await api_keys.rotate(principal.user_id, key_id, overlap=overlap))


@patch("/{key_id:uuid}", guards=[may(Permission.PROFILE_WRITE)], summary="Rename one of my API keys or set its budget")
async def change(
    key_id: FromPath[UUID],
    data: JSONBody[APIKeyPatch],
    principal: NamedDependency[Principal],
    api_keys: NamedDependency[APIKeyService],
) -> APIKeyView:
    """Needs a session: a key does not raise its own budget."""
    principal.require_session()
    return APIKeyView.of(await api_keys.change(principal.user_id, key_id, data))


@delete("/{key_id:uuid}", guards=[may(Permission.PROFILE_WRITE)], summary="Revoke one of my API keys")
async def revoke(
    key_id: FromPath[UUID], principal: NamedDependency[Principal], api_keys: NamedDependency[APIKeyService]
) -> None:
    await api_keys.revoke(key_id, user_id=principal.user_id)


@post(
    "/",
    guards=[may(Permission.SYSTEM_API_KEYS_WRITE)],
    opt=documented(NotFound, Conflict),
    summary="Make an API key for a user",
)
async def create_for_user(
    data: JSONBody[UserAPIKeyBody], principal: NamedDependency[Principal], api_keys: NamedDependency[APIKeyService]
) -> Response[NewAPIKeyView]:
    """Within what the user holds, and within what the caller does."""
    principal.require_session()
    principal.grant.require_all(data.scopes)
    return _shown_once(*await api_keys.create(data.user_id, data))


@get("/", guards=[may(Permission.SYSTEM_API_KEYS_READ)], summary="List API keys of all users")
async def list_all(
    api_keys: NamedDependency[APIKeyService],
    user_id: OfUser = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[APIKeyView]:
    rows = await api_keys.page(user_id=user_id, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda key: key.id, show=APIKeyView.of)


@delete("/{key_id:uuid}", guards=[may(Permission.SYSTEM_API_KEYS_WRITE)], summary="Revoke anybody's API key")
async def revoke_any(key_id: FromPath[UUID], api_keys: NamedDependency[APIKeyService]) -> None:
    await api_keys.revoke(key_id, user_id=None)


def _shown_once(row: APIKey, key: str) -> Response[NewAPIKeyView]:
    return Response(NewAPIKeyView(key, APIKeyView.of(row)), status_code=201, headers=NO_STORE)


router = Router("/api/me/api-keys", route_handlers=[create, list_mine, change, rotate, revoke], tags=["api keys"])
admin_router = Router("/api/admin/api-keys", route_handlers=[create_for_user, list_all, revoke_any], tags=["api keys"])
