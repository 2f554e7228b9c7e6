"""Organization B asks for everything organization A just made, and for what never existed: no difference."""

from typing import Any

import httpx

from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, World

VOLATILE = {"x-request-id", "content-length", "date", "ratelimit-remaining", "ratelimit-reset"}


def essence(answer: httpx.Response, identifier: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """An answer without what differs between any two requests."""
    headers = {name: value for name, value in answer.headers.items() if name not in VOLATILE}
    body = answer.json()
    body.pop("request_id")
    body["instance"] = body["instance"].replace(identifier, "ID")
    return answer.status_code, headers, body


async def ask_both(caller: Caller, method: str, template: str, foreign: str, body: Any = None) -> None:
    unknown = str(new_id())
    request: dict[str, Any] = {} if body is None else {"json": body}

    about_foreign = await caller.call(method, template.replace("ID", foreign), **request)
    about_unknown = await caller.call(method, template.replace("ID", unknown), **request)

    assert about_foreign.status_code == 404, (method, template, about_foreign.text)
    assert essence(about_foreign, foreign) == essence(about_unknown, unknown)


async def test_another_organization_does_not_exist(world: World) -> None:
    theirs, mine = await world.tenant(), await world.tenant()
    config = {"name": "k", "provider": "openai", "api_key": "sk-0123456789"}
    config_id = (await theirs.admin.post(f"{theirs.path}/llm-configs", config)).json()["id"]
    inside = [
        ("GET", "", None),
        ("PATCH", "/profile", {"display_name": "mine now"}),
        ("GET", "/users", None),
        ("POST", "/members", {"user_id": str(mine.member.user_id), "is_admin": True}),
        ("GET", f"/users/{theirs.member.user_id}", None),
        ("PATCH", f"/users/{theirs.member.user_id}/membership", {"is_admin": True}),
        ("DELETE", f"/users/{theirs.member.user_id}", None),
        ("GET", "/llm-configs", None),
        ("POST", "/llm-configs", config),
        ("GET", f"/llm-configs/{config_id}", None),
        ("PATCH", f"/llm-configs/{config_id}", {"name": "mine now"}),
        ("DELETE", f"/llm-configs/{config_id}", None),
        ("POST", f"/llm-configs/{config_id}/test", None),
    ]

    for caller in (mine.admin, mine.member):
        for method, path, body in inside:
            await ask_both(caller, method, f"/api/orgs/ID{path}", theirs.org_id, body)

    assert len((await theirs.admin.get(f"{theirs.path}/users")).json()["items"]) == 2
    assert (await theirs.admin.get(f"{theirs.path}/llm-configs/{config_id}")).json()["name"] == "k"


async def test_another_organizations_rows_are_not_found_under_my_own(world: World) -> None:
    theirs, mine = await world.tenant(), await world.tenant()
    config = {"name": "k", "provider": "openai", "api_key": "sk-0123456789"}
    config_id = (await theirs.admin.post(f"{theirs.path}/llm-configs", config)).json()["id"]
    member = str(theirs.member.user_id)

    for method, path, foreign, body in (
        ("GET", "/llm-configs/ID", config_id, None),
        ("PATCH", "/llm-configs/ID", config_id, {"name": "mine now"}),
        ("DELETE", "/llm-configs/ID", config_id, None),
        ("POST", "/llm-configs/ID/test", config_id, None),
        ("GET", "/users/ID", member, None),
        ("PATCH", "/users/ID/membership", member, {"is_admin": True}),
        ("DELETE", "/users/ID", member, None),
    ):
        await ask_both(mine.admin, method, mine.path + path, foreign, body)


async def test_the_platforms_own_routes_refuse_an_org_admin_alike_for_all_ids(world: World) -> None:
    theirs, mine = await world.tenant(), await world.tenant()

    for org_id in (theirs.org_id, str(new_id())):
        # The guard looks for a place in the organization first, so a stranger is told that there is none.
        assert (await mine.admin.get(f"/api/admin/orgs/{org_id}")).status_code == 404
        assert (await mine.admin.delete(f"/api/admin/orgs/{org_id}")).status_code == 404
    assert (await mine.admin.get(f"/api/admin/orgs/{mine.org_id}")).status_code == 403
    for user_id in (str(theirs.member.user_id), str(new_id())):
        assert (await mine.admin.get(f"/api/admin/users/{user_id}")).status_code == 403
        assert (await mine.admin.delete(f"/api/admin/users/{user_id}")).status_code == 403


async def test_without_a_session_nothing_tells_what_exists(world: World, http: httpx.AsyncClient) -> None:
    tenant = await world.tenant()

    for org_id in (tenant.org_id, str(new_id())):
        for path in ("", "/users", "/llm-configs"):
            assert (await http.get(f"/api/orgs/{org_id}{path}")).status_code == 401
