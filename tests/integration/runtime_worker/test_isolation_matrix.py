"""Every route of a worker, asked by every kind of caller (`just isolation` prints the answers)."""

from typing import Any

import pytest
from litestar.routes import HTTPRoute

from runtime_worker.app import create_routes
from runtime_worker.http.auth import PermissionGuard, public
from runtime_worker.http.visits import VisitGuard
from shared.clock import SystemClock
from shared.ids import new_id
from shared.security.permissions import MEMBER_PERMISSIONS, ORG_ADMIN_PERMISSIONS, Permission
from shared.security.sessions import SessionStore
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.integration.runtime_worker.test_api_keys import Program, publish
from tests.integration.runtime_worker.worker import Caller, RunningWorker, ids_of_what_is_there
from tests.isolation.matrix import OPEN, Cell, Route, Who, expected, rendered

SMALL = frozenset({Permission.ORG_READ})


def routes_of(worker: RunningWorker) -> list[Route]:
    found = []
    for route in create_routes().routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.fn.__module__.startswith("runtime_worker."):
                    (guard,) = handler.resolve_guards()
                    rule: Any = "public" if guard is public else "workers"
                    rule = guard.permission if isinstance(guard, (PermissionGuard, VisitGuard)) else rule
                    found += [Route(method, route.path_format, rule) for method in handler.http_methods - {"OPTIONS"}]
    return found


async def callers(
    worker: RunningWorker, member: Caller, control_plane: FakeControlPlane
) -> list[tuple[Who, dict[str, str]]]:
    org_id = member.org_id
    dead = await worker.sign_in(org_id)
    await SessionStore(worker.worker.redis, SystemClock()).end_all(dead.user_id)
    admin = await worker.sign_in(org_id, "org_admin")
    small = publish(control_plane, admin.user_id, None, tuple(SMALL))
    bound = publish(control_plane, admin.user_id, new_id(), tuple(MEMBER_PERMISSIONS))
    return [
        (Who("anonymous", is_known=False), {}),
        (Who("dead session", is_known=False), dead.headers),
        (Who("member of B"), (await worker.sign_in(new_id())).headers),
        (Who("admin of B"), (await worker.sign_in(new_id(), "org_admin")).headers),
        (Who("key bound to B", has_session=False), Program(worker, admin.user_id, org_id, bound).caller.headers),
        (Who("small key of A", has_session=False, here=SMALL), {"X-API-KEY": small}),
        (Who("member of A", here=MEMBER_PERMISSIONS), member.headers),
        (Who("admin of A", here=ORG_ADMIN_PERMISSIONS), admin.headers),
    ]


async def test_every_caller_gets_from_every_route_what_the_permissions_say(
    worker: RunningWorker,
    member: Caller,
    instance: OrchestratorSnapshot,
    control_plane: FakeControlPlane,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = await ids_of_what_is_there(member, instance, control_plane)
    nothing = {**{name: str(new_id()) for name in real}, "org_id": str(member.org_id)}
    asking = await callers(worker, member, control_plane)
    cells = []
    for route in sorted(routes_of(worker), key=lambda route: (route.path, route.method)):
        for who, headers in asking:
            # What is refused is asked about what is there; what is open must change nothing.
            wanted = expected(route, who)
            path = route.path.format_map(nothing if wanted == OPEN else real)
            body: dict[str, Any] = {} if route.method in ("GET", "DELETE") else {"json": {"no such field": 1}}
            async with worker.http.request(route.method, worker.url + path, headers=headers, **body) as answer:
                cells.append(Cell(route, who, wanted, answer.status))

    if pytestconfig.getoption("--matrix"):
        with capsys.disabled():
            print(rendered("runtime worker", cells))
    assert [(c.route.method, c.route.path, c.who.name, c.expected, c.status) for c in cells if not c.is_right] == []
    assert len(cells) > 100
    assert (await member.call("GET", f"/conversations/{real['conversation_id']}"))[1]["title"] == "secret plans"
