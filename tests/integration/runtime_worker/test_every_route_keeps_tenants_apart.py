"""Every route of a worker that takes an id, asked by another organization's admin and by a colleague: what is not
theirs looks like what does not exist. A route that is new fails here until the table knows it.
"""

import json
from typing import Any

import pytest
from litestar.routes import HTTPRoute

from runtime_worker.app import create_routes
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.worker import Caller, RunningWorker

ORG = "/api/orgs/{org_id}"
CHAT = {"message": "hi"}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/orchestrators/{instance_id}/completion/chat"): CHAT,
    ("POST", "/orchestrators/{instance_id}/completion/stream"): CHAT,
    ("POST", "/completion/chat"): {**CHAT, "instance_id": "{instance_id}"},
    ("POST", "/completion/stream"): {**CHAT, "instance_id": "{instance_id}"},
    ("POST", "/orchestrators/{instance_id}/v1/chat/completions"): {"messages": [{"role": "user", "content": "hi"}]},
    ("GET", "/orchestrators/{instance_id}/v1/models"): None,
    ("POST", "/central-points/{central_id}/completion/chat"): CHAT,
    ("POST", "/central-points/{central_id}/completion/stream"): CHAT,
    ("POST", "/central-points/{central_id}/v1/chat/completions"): {"messages": [{"role": "user", "content": "hi"}]},
    ("GET", "/central-points/{central_id}/v1/models"): None,
    ("GET", "/conversations"): None,
    ("GET", "/conversations/{conversation_id}"): None,
    ("PATCH", "/conversations/{conversation_id}"): {"title": "mine"},
    ("DELETE", "/conversations/{conversation_id}"): None,
    ("GET", "/conversations/{conversation_id}/messages"): None,
    ("GET", "/conversations/{conversation_id}/export"): None,
    ("GET", "/runs/{run_id}"): None,
    ("GET", "/runs/{run_id}/stream"): None,
    ("GET", "/orchestrators/{instance_id}/completion/starters"): None,
    ("POST", "/runs/{run_id}/cancel"): None,
}

VOLATILE = {"x-request-id", "date", "content-length", "ratelimit-remaining", "ratelimit-reset"}
"""What is left of the caller's own rate is another number with every request."""


async def asked(caller: Caller, ids: dict[str, str], *, about: str = "") -> dict[tuple[str, str], Any]:
    """Status, headers and body of every route's answer, the ids taken out."""
    found = {}
    for (method, path), body in BODIES.items():
        if about in path:
            text = json.dumps(body)
            for name, value in ids.items():
                path, text = path.replace(f"{{{name}}}", value), text.replace(f"{{{name}}}", value)
            url = caller.url.rpartition("/")[0] + "/" + ids["org_id"] + path
            headers = {**caller.headers, **({"Content-Type": "application/json"} if body else {})}
            async with caller.http.request(method, url, headers=headers, data=text if body else None) as response:
                problem = await response.json(content_type=None)
                problem.pop("request_id", None)
                shown = str(problem)
                for name, value in ids.items():
                    shown = shown.replace(value, name)
                kept = {n: v for n, v in response.headers.items() if n.lower() not in VOLATILE}
                found[method, path] = (response.status, kept, shown)
    return found


def test_every_route_about_an_organization_is_in_the_table(worker: RunningWorker) -> None:
    routes = {
        (method, route.path_format.removeprefix(ORG))
        for route in create_routes().routes
        if isinstance(route, HTTPRoute) and route.path_format.startswith("/api/")
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }
    assert routes == set(BODIES)


@pytest.fixture
async def theirs(member: Caller, instance: OrchestratorSnapshot, control_plane: FakeControlPlane) -> dict[str, str]:
    _, answer = await member.chat(instance.instance_id, "secret plans")
    return {
        "org_id": str(member.org_id),
        "instance_id": str(instance.instance_id),
        "central_id": str(control_plane.point(instance).central_id),
        "conversation_id": answer["conversation_id"],
        "run_id": answer["run_id"],
    }


async def test_what_another_organization_has_looks_like_what_nobody_has(
    worker: RunningWorker, member: Caller, theirs: dict[str, str], builder: ScriptedBuilder
) -> None:
    stranger = await worker.sign_in(new_id(), "org_admin")
    unknown = {name: str(new_id()) for name in theirs}

    in_their_organization = await asked(stranger, theirs)
    assert {status for status, _, _ in in_their_organization.values()} == {404}
    assert list(in_their_organization.values()) == list((await asked(stranger, unknown)).values())
    own = {"org_id": str(stranger.org_id)}
    of_theirs = await asked(stranger, {**theirs, **own}, about="{")
    assert {status for status, _, _ in of_theirs.values()} == {404}
    assert list(of_theirs.values()) == list((await asked(stranger, {**unknown, **own}, about="{")).values())
    bodies = [await asked(stranger, {**ids, **own}, about="/completion/") for ids in (theirs, unknown)]
    assert list(bodies[0].values()) == list(bodies[1].values())
    assert len(builder.requests) == 1
    assert (await member.call("GET", f"/conversations/{theirs['conversation_id']}"))[1]["title"] == "secret plans"


async def test_what_a_colleague_has_looks_like_what_nobody_has(
    worker: RunningWorker, member: Caller, theirs: dict[str, str]
) -> None:
    colleague = await worker.sign_in(member.org_id)
    unknown = {name: str(new_id()) for name in theirs} | {"org_id": str(member.org_id)}

    for kind in ("{conversation_id}", "{run_id}"):
        of_theirs = await asked(colleague, theirs, about=kind)
        assert {status for status, _, _ in of_theirs.values()} == {404}
        assert list(of_theirs.values()) == list((await asked(colleague, unknown, about=kind)).values())
    assert (await member.call("GET", f"/conversations/{theirs['conversation_id']}"))[0] == 200
