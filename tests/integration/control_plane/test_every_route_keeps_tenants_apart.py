"""Every route that takes an id, asked by another organization's admin: what exists looks like what does not.

The routes come from the application, so one that is new fails here until the tables below know it.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from control_plane.plugins.pending import PendingUpload
from control_plane.wiring import Resources
from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.workshop import Workshop, add_plugin

NOT_ABOUT_TENANTS = {
    "/api/frameworks/{framework}/supported-providers",
    "/api/providers/{provider}/models",
    "/api/engine/{mode}/prompts",
    "/api/admin/tiers/{name}",
}
VOLATILE = {"x-request-id", "content-length", "date", "ratelimit-remaining", "ratelimit-reset"}
"""What is left of the caller's own rate is another number with every request."""

ORG, ADMIN = "/api/orgs/{org_id}", "/api/admin"
INSTANCE = ORG + "/orchestrators/{instance_id}"
POINT = ORG + "/central-points/{central_id}"
CHAT = {"message": "hi"}
USER = {"username": "new", "password": "a long enough one"}
KEY = {"name": "k", "provider": "openai", "api_key": "sk-0123456789"}
ANY = str(new_id())

BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", ORG + "/profile"): {"display_name": "mine"},
    ("POST", ORG + "/members"): {"user_id": ANY},
    ("PATCH", ORG + "/users/{user_id}/membership"): {"is_admin": True},
    ("POST", ORG + "/llm-configs"): KEY,
    ("PATCH", ORG + "/llm-configs/{config_id}"): {"name": "mine"},
    ("PATCH", ORG + "/plugins/{plugin_id}"): {"enabled": False},
    ("POST", ORG + "/plugins/mcp"): {
        "pid": "com.theirs.weather",
        "version": "1.0.0",
        "name": "Weather",
        "description": "Weather from elsewhere.",
        "transport": "streamable_http",
        "url": "https://mcp.example/mcp",
    },
    ("POST", ORG + "/orchestrators"): {
        "name": "Helper",
        "framework_type": "langgraph",
        "mode": "supervisor",
        "active_plugin_ids": ["com.example.calculator"],
        "config": {"default_llm_config_id": ANY},
    },
    ("PATCH", INSTANCE): {"name": "mine now"},
    ("PATCH", INSTANCE + "/config"): {"config": {"default_llm_config_id": ANY}},
    ("PATCH", INSTANCE + "/status"): {"status": "suspended"},
    ("PATCH", INSTANCE + "/plugin-settings"): {"plugin_settings": {}},
    ("POST", INSTANCE + "/plugins/activate"): {"plugin_id": "com.example.calculator"},
    ("POST", INSTANCE + "/load"): {},
    ("POST", "/api/me/api-keys/{key_id}/rotate"): {},
    ("PATCH", "/api/me/api-keys/{key_id}"): {"budget_per_month": 1},
    ("POST", INSTANCE + "/completion/{operation}"): CHAT,
    ("POST", ORG + "/central-points"): {"name": "Helpdesk", "instance_id": ANY},
    ("PATCH", POINT): {"name": "mine"},
    ("POST", POINT + "/completion/{operation}"): CHAT,
    ("POST", POINT + "/v1/{rest}"): {"messages": [{"role": "user", "content": "hi"}]},
    ("POST", INSTANCE + "/v1/{rest}"): {"messages": [{"role": "user", "content": "hi"}]},
    ("POST", ORG + "/completion/{operation}"): {**CHAT, "instance_id": ANY},
    ("PATCH", ORG + "/conversations/{rest}"): {"title": "mine"},
    ("POST", ORG + "/settings"): {"settings": {"on_disconnect": "cancel"}},
    ("PUT", ORG + "/orchestrator-defaults"): {"settings": {"run_timeout": {"value": 1}}},
    ("PATCH", ADMIN + "/settings/{key}"): {"value": 1},
    ("POST", "/internal/purges/{deleted_id}"): {"worker_id": "w"},
    ("PATCH", ADMIN + "/orgs/{org_id}"): {"status": "suspended"},
    ("POST", ADMIN + "/orgs/{org_id}/users"): USER,
    ("PATCH", ADMIN + "/users/{user_id}"): {"password": "a long enough one"},
    ("PATCH", ADMIN + "/plugins/{plugin_id}"): {"enabled": False},
    ("PATCH", ADMIN + "/roles/{role_id}"): {"name": "mine"},
    ("POST", ADMIN + "/roles/{role_id}/users"): {"user_id": ANY},
    ("PATCH", ADMIN + "/providers/models/{model_id}"): {"is_enabled": False},
}
WITHOUT_A_BODY = {
    *(("GET", ORG + path) for path in ("", "/users", "/users/{user_id}", "/conversations", "/conversations/{rest}")),
    *(("GET", ORG + path) for path in ("/settings", "/orchestrator-defaults")),
    *(("GET", ORG + path) for path in ("/llm-configs", "/llm-configs/{config_id}", "/plugins", "/orchestrators")),
    *(("GET", ORG + "/plugins" + path) for path in ("/{plugin_id}", "/{pid}/versions", "/{plugin_id}/settings-schema")),
    *(("GET", catalogue + "/plugins/uploads/{upload_id}") for catalogue in (ORG, ADMIN)),
    *(("GET", catalogue + "/plugins/{plugin_id}/logo") for catalogue in (ORG, ADMIN)),
    *(("GET", INSTANCE + path) for path in ("", "/status", "/graph", "/effective-config")),
    *(("GET", ADMIN + path) for path in ("/orgs/{org_id}", "/orgs/{org_id}/quota", "/users/{user_id}")),
    *(("GET", ADMIN + "/plugins" + path) for path in ("/{plugin_id}", "/{pid}/versions")),
    *(("GET", ADMIN + path) for path in ("/plugins/{plugin_id}/settings-schema", "/providers/models/{model_id}")),
    *(("GET", "/internal" + path) for path in ("/snapshots/{instance_id}", "/grants/{user_id}", "/limits/{org_id}")),
    *(("DELETE", ORG + path) for path in ("/users/{user_id}", "/llm-configs/{config_id}", "/plugins/{plugin_id}")),
    *(("DELETE", INSTANCE + path) for path in ("", "/purge")),
    *(("DELETE", ADMIN + path) for path in ("/orgs/{org_id}", "/users/{user_id}", "/plugins/{plugin_id}")),
    *((method, ADMIN + "/orgs/{deleted_id}/purge") for method in ("GET", "DELETE")),
    ("DELETE", ADMIN + "/providers/models/{model_id}"),
    ("DELETE", "/api/me/api-keys/{key_id}"),
    ("DELETE", "/api/me/sessions/{session_id}"),
    *((method, ADMIN + "/users/{user_id}/sessions") for method in ("GET", "DELETE")),
    ("DELETE", ADMIN + "/api-keys/{key_id}"),
    ("GET", "/internal/api-keys/{digest}"),
    ("GET", "/internal/limits/{org_id}/counted"),
    ("GET", ORG + "/audit"),
    *(("GET", ORG + "/stats" + path) for path in ("/usage", "/cost")),
    *((method, ADMIN + "/roles/{role_id}") for method in ("GET", "DELETE")),
    ("GET", ADMIN + "/roles/{role_id}/users"),
    ("DELETE", ADMIN + "/roles/{role_id}/users"),
    ("POST", ORG + "/llm-configs/{config_id}/test"),
    ("POST", ORG + "/plugins/upload"),
    *(("POST", INSTANCE + path) for path in ("/unload", "/reload")),
    ("PUT", INSTANCE + "/plugins/sync"),
    *((method, ORG + "/runs/{rest}") for method in ("GET", "POST", "PATCH", "DELETE")),
    *((method, ORG + "/conversations/{rest}") for method in ("POST", "DELETE")),
    *((method, ORG + "/conversations") for method in ("POST", "PATCH", "DELETE")),
    *((method, ORG + "/completion/{operation}") for method in ("GET", "PATCH", "DELETE")),
    *(("GET", path + "/v1/{rest}") for path in (INSTANCE, POINT)),
    ("GET", ORG + "/central-points"),
    *((method, POINT) for method in ("GET", "DELETE")),
    *((method, POINT + "/completion/{operation}") for method in ("GET", "PATCH", "DELETE")),
    ("GET", "/internal/organizations/{org_id}"),
    *((method, INSTANCE + "/completion/{operation}") for method in ("GET", "PATCH", "DELETE")),
}


def routes_with_ids(app: Litestar) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute) and "{" in route.path_format and route.path_format not in NOT_ABOUT_TENANTS:
            for handler in route.route_handlers:
                if handler.fn.__module__.startswith("control_plane."):
                    yield from ((method, route.path_format) for method in handler.http_methods if method != "OPTIONS")


def test_every_route_with_an_id_is_in_the_tables(routes: Litestar) -> None:
    assert set(routes_with_ids(routes)) == BODIES.keys() | WITHOUT_A_BODY


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def asked(caller: Caller, method: str, template: str, ids: dict[str, str]) -> tuple[int, Any, Any]:
    """Status, headers and body of the answer, the ids taken out."""
    body = BODIES.get((method, template))
    answer = await caller.call(method, template.format(**ids), **({} if body is None else {"json": body}))
    return without(answer, ids)


def without(answer: httpx.Response, ids: dict[str, str]) -> tuple[int, Any, Any]:
    headers = {name: value for name, value in answer.headers.items() if name not in VOLATILE}
    body = answer.json()
    # OpenAI's errors have none.
    body.pop("request_id", None)
    text = str(body)
    for name, value in ids.items():
        text = text.replace(value, name)
    return answer.status_code, headers, text


async def test_what_another_organization_has_looks_like_what_nobody_has(
    routes: Litestar, world: World, resources: Resources, shop: Workshop, root: Caller
) -> None:
    plugin_id = await add_plugin(resources, "com.theirs.secret", org_id=shop.tenant.org_id)
    model = await root.post("/api/admin/providers/models", {"provider": "openai", "model_name": "gpt-test"})
    key = await shop.admin.post("/api/me/api-keys", {"name": "k", "scopes": ["cadence:org:read"]})
    role_body = {"name": "Reader", "scope": "organization", "permissions": ["cadence:org:read"]}
    role = await root.post("/api/admin/roles", role_body)
    deleted_id = await world.organization()
    assert (await root.delete(f"/api/admin/orgs/{deleted_id}")).status_code == 204
    upload = PendingUpload(new_id(), "done", plugin_id=new_id())
    await resources.redis.set(f"upload:{shop.tenant.org_id}:{upload.upload_id}", msgspec.json.encode(upload))
    theirs = {
        "upload_id": str(upload.upload_id),
        "org_id": shop.tenant.org_id,
        "deleted_id": deleted_id,
        "user_id": str(shop.member.user_id),
        "config_id": shop.llm_config_id,
        "plugin_id": plugin_id,
        "pid": "com.theirs.secret",
        "instance_id": (instance_id := (await shop.orchestrator())["instance_id"]),
        "central_id": (await shop.central_point(instance_id))["central_id"],
        "model_id": model.json()["id"],
        "key_id": str(key.json()["api_key"]["id"]),
        "digest": "0" * 64,
        "session_id": (await shop.admin.get("/api/me/sessions")).json()["items"][0]["id"],
        "role_id": str(role.json()["id"]),
        "operation": "chat",
        "rest": str(new_id()),
        "key": "run_timeout",
    }
    unknown = {**{name: str(new_id()) for name in theirs}, "pid": "com.nobodys.thing", "operation": "chat"}
    mine = await world.tenant()

    for method, template in sorted(routes_with_ids(routes)):
        assert await asked(mine.admin, method, template, theirs) == (
            refused := await asked(mine.admin, method, template, unknown)
        ), (method, template)
        # 503 is the gateway's: what it would pass on is the worker's to refuse, and here there is none.
        assert refused[0] in (401, 403, 404, 503), (method, template)
        if "{org_id}" in template and template.count("{") > 1:
            # The same ids below an organization of one's own.
            about_theirs = {**theirs, "org_id": mine.org_id}
            refused = await asked(mine.admin, method, template, {**unknown, "org_id": mine.org_id})
            assert await asked(mine.admin, method, template, about_theirs) == refused, (method, template)
            assert refused[0] >= 400, (method, template)

    assert (await shop.admin.get(shop.path)).json()["items"][0]["status"] == "active"
    assert (await shop.admin.get(f"{shop.tenant.path}/llm-configs/{shop.llm_config_id}")).json()["name"] == "key 1"


async def test_ids_in_a_body_tell_no_more_than_ids_in_a_path(
    world: World, resources: Resources, shop: Workshop
) -> None:
    plugin_id = await add_plugin(resources, "com.theirs.secret", org_id=shop.tenant.org_id)
    mine = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    made = await mine.orchestrator()
    config = {"default_llm_config_id": mine.llm_config_id}

    def bodies(llm_config_id: str, ref: str) -> list[tuple[str, str, Any]]:
        foreign = {"default_llm_config_id": llm_config_id}
        node = {**config, "mode_config": {"supervisor_node": {"llm_config_id": llm_config_id}}}
        return [
            ("POST", mine.path, {**mine.body(name="Helper"), "config": foreign}),
            ("POST", mine.path, {**mine.body(name="Helper"), "config": node}),
            ("POST", mine.path, {**mine.body(name="Helper"), "active_plugin_ids": [ref]}),
            ("PATCH", mine.at(made), {"active_plugin_ids": [mine.calculator_id, ref]}),
            ("PATCH", mine.at(made, "/config"), {"config": foreign}),
            ("PATCH", mine.at(made, "/config"), {"config": node}),
            ("POST", mine.at(made, "/plugins/activate"), {"plugin_id": ref}),
        ]

    for theirs, nobodys in (
        (plugin_id, str(new_id())),
        ("com.theirs.secret", "com.nobodys.thing"),
        ("com.theirs.secret@1.0.0", "com.nobodys.thing@1.0.0"),
    ):
        no_config = str(new_id())
        known, unknown = bodies(shop.llm_config_id, theirs), bodies(no_config, nobodys)
        for (method, path, foreign), (_, _, missing) in zip(known, unknown, strict=True):
            about_theirs = await mine.admin.call(method, path, json=foreign)
            about_nothing = await mine.admin.call(method, path, json=missing)
            assert about_theirs.status_code == 422, (method, path, about_theirs.text)
            assert without(about_theirs, {"ref": theirs, "config": shop.llm_config_id}) == without(
                about_nothing, {"ref": nobodys, "config": no_config}
            )
