"""Every route of the control plane, asked by every kind of caller (`just isolation` prints the answers)."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from control_plane.http.guards import public, refreshing, session_only, signed_in
from control_plane.http.openapi import PermissionGuard
from control_plane.internal.guards import worker_only
from control_plane.wiring import Resources
from shared.ids import new_id
from shared.security.permissions import (
    EVERYBODYS_PERMISSIONS,
    MEMBER_PERMISSIONS,
    ORG_ADMIN_PERMISSIONS,
    SYS_ADMIN_PERMISSIONS,
    Permission,
)
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.workshop import Workshop, add_plugin
from tests.isolation.matrix import OPEN, Cell, Route, Who, expected, rendered

SMALL = frozenset({Permission.ORG_STATS_READ})
SUPPORT = frozenset({Permission.SYSTEM_TELEMETRY_READ, Permission.ORG_MEMBERS_READ})

ANONYMOUS = Who("anonymous", is_known=False)
DEAD = Who("dead session", is_known=False)
MEMBER_OF_B = Who("member of B", in_system=EVERYBODYS_PERMISSIONS)
ADMIN_OF_B = Who("admin of B", in_system=EVERYBODYS_PERMISSIONS)
KEY_OF_B = Who("key bound to B", has_session=False)
SUPPORT_ROLE = Who("system role", in_system=EVERYBODYS_PERMISSIONS | SUPPORT)
MEMBER_OF_A = Who("member of A", here=MEMBER_PERMISSIONS, in_system=EVERYBODYS_PERMISSIONS)
SMALL_KEY_OF_A = Who("small key of A", has_session=False, here=SMALL)
ADMIN_OF_A = Who("admin of A", here=ORG_ADMIN_PERMISSIONS, in_system=EVERYBODYS_PERMISSIONS)
SYS_ADMIN = Who("sys_admin", here=SYS_ADMIN_PERMISSIONS, in_system=SYS_ADMIN_PERMISSIONS)

USES_A_KEY = {("POST", "/api/orgs/{org_id}/llm-configs/{config_id}/test")}
"""Where the BYOK rule keeps out a sys_admin who is no member."""


def routes_of(app: Litestar) -> Iterator[Route]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.fn.__module__.startswith("control_plane."):
                    for method in sorted(handler.http_methods - {"OPTIONS"}):
                        yield Route(method, route.path_format, rule_of(handler))


def rule_of(handler: HTTPRouteHandler) -> Any:
    (guard,) = handler.resolve_guards()
    if isinstance(guard, PermissionGuard):
        return guard.permission
    if guard in (session_only, refreshing):
        return "session"
    return {public: "public", signed_in: "signed in", worker_only: "workers"}[guard]  # type: ignore[index]  # of these


class Asker:
    """Asks as one kind of caller. What may be refused is asked about what is really there; what is open must change
    nothing, so it is asked about what is not there and with a body that cannot be taken.
    """

    def __init__(self, who: Who, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.who = who
        self._http = http
        self._headers = headers

    async def ask(self, route: Route, real: dict[str, str]) -> Cell:
        wanted = expected(route, self.who)
        if self.who is SYS_ADMIN and (route.method, route.path) in USES_A_KEY:
            wanted = 403
        ids = real
        if wanted == OPEN:
            # An organization of one's own is there all the same; to look after one as the platform, another will do.
            ids = {**{name: str(new_id()) for name in real}, "operation": "chat", "digest": "0" * 64}
            if not route.path.startswith("/api/admin/"):
                ids["org_id"] = real["org_id"]
        body: dict[str, Any] = {} if route.method in ("GET", "DELETE") else {"json": {"no such field": 1}}
        answer = await self._http.request(route.method, route.path.format(**ids), headers=self._headers, **body)
        return Cell(route, self.who, wanted, answer.status_code)


async def key_of(caller: Caller, scopes: frozenset[Permission], **fields: str) -> dict[str, str]:
    body = {"name": "program", "scopes": sorted(scopes), **fields}
    return {"X-API-KEY": (await caller.post("/api/me/api-keys", body)).json()["key"]}


@pytest.fixture
async def askers(world: World, root: Caller, http: httpx.AsyncClient, shop: Workshop) -> list[Asker]:
    b = await world.tenant()
    left, support = await world.user(), await world.user()
    role = {"name": "Support", "scope": "system", "permissions": sorted(SUPPORT)}
    role_id = (await root.post("/api/admin/roles", role)).json()["id"]
    await root.post(f"/api/admin/roles/{role_id}/users", {"user_id": str(support.user_id)})
    await left.delete("/api/auth/logout")
    a = shop.tenant
    bound = await key_of(b.admin, frozenset({Permission.ORG_READ}), org_id=b.org_id)

    def session(caller: Caller) -> dict[str, str]:
        return {"Authorization": f"Bearer {caller.token}"}

    by_name: list[tuple[Who, dict[str, str]]] = [
        (ANONYMOUS, {}),
        (DEAD, session(left)),
        (MEMBER_OF_B, session(b.member)),
        (ADMIN_OF_B, session(b.admin)),
        (KEY_OF_B, bound),
        (SUPPORT_ROLE, session(support)),
        (SMALL_KEY_OF_A, await key_of(a.admin, SMALL)),
        (MEMBER_OF_A, session(a.member)),
        (ADMIN_OF_A, session(a.admin)),
        (SYS_ADMIN, session(root)),
    ]
    return [Asker(who, http, headers) for who, headers in by_name]


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def test_every_caller_gets_from_every_route_what_the_permissions_say(
    routes: Litestar,
    resources: Resources,
    shop: Workshop,
    root: Caller,
    askers: list[Asker],
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    role = {"name": "Reader", "scope": "organization", "permissions": ["cadence:org:read"]}
    model = await root.post("/api/admin/providers/models", {"provider": "openai", "model_name": "gpt-test"})
    real = {
        "org_id": shop.tenant.org_id,
        "deleted_id": shop.tenant.org_id,
        "user_id": str(shop.member.user_id),
        "config_id": shop.llm_config_id,
        "plugin_id": await add_plugin(resources, "com.theirs.secret", org_id=shop.tenant.org_id),
        "pid": "com.theirs.secret",
        "upload_id": str(new_id()),
        "instance_id": (instance_id := (await shop.orchestrator())["instance_id"]),
        "central_id": (await shop.central_point(instance_id))["central_id"],
        "model_id": model.json()["id"],
        "role_id": (await root.post("/api/admin/roles", role)).json()["id"],
        "key_id": (await shop.admin.get("/api/me/api-keys")).json()["items"][0]["id"],
        "digest": "0" * 64,
        "session_id": (await shop.admin.get("/api/me/sessions")).json()["items"][0]["id"],
        "framework": "langgraph",
        "mode": "supervisor",
        "key": "max_message_chars",
        "name": "plus",
        "provider": "openai",
        "operation": "chat",
        "rest": str(new_id()),
    }

    # Those that end the session they are asked with come last, each caller's own.
    every = sorted(routes_of(routes), key=lambda route: (route.rule == "session", route.path, route.method))
    cells = [await asker.ask(route, real) for route in every for asker in askers if not ends_session(route, asker)]

    if pytestconfig.getoption("--matrix"):
        with capsys.disabled():
            print(rendered("control plane", cells))
    assert [(c.route.method, c.route.path, c.who.name, c.expected, c.status) for c in cells if not c.is_right] == []
    assert len(cells) > 500
    assert (await shop.admin.get(shop.path)).json()["items"][0]["status"] == "active"


def ends_session(route: Route, asker: Asker) -> bool:
    return route.path.startswith("/api/auth/") and route.rule == "session" and expected(route, asker.who) == OPEN
