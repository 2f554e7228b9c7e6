"""Who gets an answer: every check in its order, and another organization's ids that look like ids that do not exist."""

import asyncio
import base64
from typing import Any
from uuid import UUID

import pytest

from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.http import conversations
from shared.clock import SystemClock
from shared.ids import new_id
from shared.security.permissions import Permission, Role
from shared.security.sessions import SessionStore
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import TOKEN, FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually


async def test_a_dead_session_is_refused_on_the_next_request(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot
) -> None:
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    await SessionStore(worker.worker.redis, SystemClock()).end_all(member.user_id)
    status, problem = await member.chat(instance.instance_id, "hi")
    assert (status, problem["code"]) == (401, "AU-0001")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic abc"}])
async def test_no_token_is_refused_before_the_body_is_looked_at(
    worker: RunningWorker, instance: OrchestratorSnapshot, header: dict[str, str]
) -> None:
    url = f"{worker.url}/api/orgs/{instance.org_id}/orchestrators/{instance.instance_id}/completion/chat"
    async with worker.http.post(url, headers=header, data=b"{not json") as response:
        assert response.status == 401
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.json())["request_id"] == response.headers["X-Request-ID"]


async def test_a_body_that_breaks_a_rule_is_named(member: Caller, instance: OrchestratorSnapshot) -> None:
    path = f"/orchestrators/{instance.instance_id}/completion/chat"
    bad: list[tuple[bytes, int, list[str]]] = [
        (b"{not json", 400, []),
        (b"", 400, []),
        (b'{"message":"hi","metadata":{"a":' + b"[" * 100_000, 400, []),
        (b"{}", 422, ["body"]),
        (b'{"message":""}', 422, ["message"]),
        (b'{"message":"%s"}' % (b"x" * 32_001), 422, ["message"]),
        (b'{"message":5}', 422, ["message"]),
        (b'{"message":"hi","colour":"red"}', 422, ["colour"]),
        (b'{"message":"hi","conversation_id":"nonsense"}', 422, ["conversation_id"]),
        (b'{"message":"hi","on_disconnect":"explode"}', 422, ["on_disconnect"]),
        (b'{"message":"%s"}' % (b"x" * 2_000_000), 413, []),
    ]
    async with member.http.post(member.url + path, headers=member.headers, data={"message": "hi"}) as response:
        assert response.status == 415
    headers = {**member.headers, "Content-Type": "application/json"}
    for body, status, fields in bad:
        async with member.http.post(member.url + path, headers=headers, data=body) as response:
            problem = await response.json(content_type="application/problem+json")
            named = [error["field"] for error in problem.get("errors", [])]
            assert (response.status, named) == (status, fields), body[:60]


async def test_a_message_of_the_longest_length_is_taken(member: Caller, instance: OrchestratorSnapshot) -> None:
    assert (await member.chat(instance.instance_id, "ü" * 32_000))[0] == 200


async def test_everything_of_an_organization_is_unknown_to_another(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    _, answer = await member.chat(instance.instance_id, "secret plans")
    stranger = await worker.sign_in(new_id(), "org_admin")
    conversation, run = answer["conversation_id"], answer["run_id"]
    asked: list[tuple[str, str, Any]] = [
        ("POST", f"/orchestrators/{instance.instance_id}/completion/chat", {"message": "hi"}),
        ("POST", f"/orchestrators/{instance.instance_id}/completion/stream", {"message": "hi"}),
        ("POST", "/completion/chat", {"message": "hi", "instance_id": str(instance.instance_id)}),
        ("GET", f"/conversations/{conversation}", None),
        ("GET", f"/conversations/{conversation}/messages", None),
        ("PATCH", f"/conversations/{conversation}", {"title": "mine"}),
        ("DELETE", f"/conversations/{conversation}", None),
        ("GET", f"/runs/{run}", None),
        ("POST", f"/runs/{run}/cancel", None),
    ]
    own_org = [await stranger.call(method, path, json=body) for method, path, body in asked]
    assert {status for status, _ in own_org} == {404}
    stranger.url = member.url
    in_that_org = [await stranger.call(method, path, json=body) for method, path, body in asked]
    assert {status for status, _ in in_that_org} == {404}
    assert len(builder.requests) == 1
    assert (await member.call("GET", f"/conversations/{conversation}"))[1]["title"] == "secret plans"


async def test_a_member_sees_their_own_and_an_org_admin_the_organizations(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot
) -> None:
    _, answer = await member.chat(instance.instance_id, "hi")
    path = f"/conversations/{answer['conversation_id']}"
    colleague = await worker.sign_in(instance.org_id)
    admin = await worker.sign_in(instance.org_id, "org_admin")
    assert (await colleague.call("GET", path))[0] == 404
    assert (await colleague.call("GET", f"/runs/{answer['run_id']}"))[0] == 404
    assert (await colleague.call("GET", "/conversations"))[1]["items"] == []
    status, problem = await colleague.chat(instance.instance_id, "hi", conversation_id=answer["conversation_id"])
    assert (status, problem["code"]) == (404, "RE-0001")
    assert (await admin.call("GET", path))[0] == 200
    assert (await admin.call("GET", f"/runs/{answer['run_id']}"))[0] == 200
    assert len((await admin.call("GET", "/conversations"))[1]["items"]) == 1


async def test_a_sys_admin_from_outside_may_not_use_the_organizations_keys(
    worker: RunningWorker, instance: OrchestratorSnapshot
) -> None:
    outsider = await worker.sign_in(instance.org_id, "sys_admin")
    status, problem = await outsider.chat(instance.instance_id, "hi")
    assert (status, problem["code"]) == (403, "AZ-0001")


async def test_a_suspended_organization_chats_no_more(
    worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> None:
    member = await worker.sign_in(instance.org_id)
    control_plane.admit(member.user_id, member.org_id, org_status="suspended")
    status, problem = await member.chat(instance.instance_id, "hi")
    assert (status, problem["code"]) == (403, "AZ-0002")


async def test_conversations_are_paged_renamed_and_deleted(member: Caller, instance: OrchestratorSnapshot) -> None:
    for n in range(5):
        await member.chat(instance.instance_id, f"talk {n}")
    titles, cursor = [], ""
    while True:
        _, page = await member.call("GET", f"/conversations?limit=2{cursor}")
        titles += [item["title"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert titles == [f"talk {n}" for n in (4, 3, 2, 1, 0)]
    _, page = await member.call("GET", f"/conversations?instance_id={new_id()}")
    assert page["items"] == []
    newest = (await member.call("GET", "/conversations?limit=1"))[1]["items"][0]["conversation_id"]
    assert (await member.call("PATCH", f"/conversations/{newest}", json={"title": "Renamed"}))[1]["title"] == "Renamed"
    assert (await member.call("GET", f"/conversations/{newest}"))[1]["title"] == "Renamed"
    assert (await member.call("DELETE", f"/conversations/{newest}"))[0] == 204
    assert (await member.call("GET", f"/conversations/{newest}"))[0] == 404
    assert (await member.call("GET", f"/conversations/{newest}/messages"))[0] == 404
    beyond = base64.urlsafe_b64encode(f'["0001-01-01T00:00:00+23:59","{new_id()}"]'.encode()).decode().rstrip("=")
    for query in ("cursor=nonsense", f"cursor={beyond}", "limit=0", "limit=201", "instance_id=x"):
        assert (await member.call("GET", f"/conversations?{query}"))[0] in (400, 422)


async def test_messages_are_paged_oldest_first(member: Caller, instance: OrchestratorSnapshot) -> None:
    _, first = await member.chat(instance.instance_id, "0")
    conversation = first["conversation_id"]
    await member.chat(instance.instance_id, "1", conversation_id=conversation)
    _, page = await member.call("GET", f"/conversations/{conversation}/messages?limit=3")
    assert [m["content"] for m in page["items"]] == ["0", "You said: 0", "1"]
    _, rest = await member.call("GET", f"/conversations/{conversation}/messages?limit=3&cursor={page['next_cursor']}")
    assert [m["content"] for m in rest["items"]] == ["You said: 1"]
    assert rest["next_cursor"] is None


async def test_a_conversation_stays_with_its_orchestrator(
    member: Caller, instance: OrchestratorSnapshot, control_plane: FakeControlPlane
) -> None:
    other = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=instance.org_id)
    control_plane.put(other)
    _, first = await member.chat(instance.instance_id, "hi")
    status, problem = await member.chat(other.instance_id, "hi", conversation_id=first["conversation_id"])
    assert (status, problem["code"]) == (409, "RE-0005")


async def test_only_the_control_plane_sees_the_graph(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot
) -> None:
    url = f"{worker.url}/internal/orchestrators/{instance.instance_id}/graph"
    async with worker.http.get(url, headers=member.headers) as response:
        assert response.status == 401
    async with worker.http.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        assert (response.status, await response.text()) == (200, "graph TD\n  start --> answer\n")


async def test_unknown_paths_and_methods_are_problems_with_an_id(worker: RunningWorker) -> None:
    headers = {"X-Request-ID": "from-the-caller"}
    async with worker.http.get(worker.url + "/nope", headers=headers) as response:
        problem = await response.json()
        assert (response.status, problem["code"], problem["request_id"]) == (404, "RE-0001", "from-the-caller")
    async with worker.http.delete(worker.url + "/health") as response:
        assert (response.status, (await response.json())["code"]) == (405, "SY-0003")


async def test_the_openapi_document_names_every_route_with_its_errors(worker: RunningWorker) -> None:
    async with worker.http.get(worker.url + "/openapi.json") as response:
        document = await response.json()
    stream = document["paths"]["/api/orgs/{org_id}/orchestrators/{instance_id}/completion/stream"]["post"]
    assert "text/event-stream" in stream["responses"]["200"]["content"]
    assert stream["x-permission"] == "cadence:chat:use"
    assert {"400", "401", "403", "404", "409", "410", "422", "503"} <= set(stream["responses"])
    schema = document["components"]["schemas"]["CompletionBody"]
    assert schema["additionalProperties"] is False
    assert all(not path.startswith("/internal") for path in document["paths"])


async def test_ids_that_are_none_are_ids_that_do_not_exist(member: Caller) -> None:
    for path in ("/runs/nonsense", "/conversations/nonsense", f"/runs/{UUID(int=0)}"):
        assert (await member.call("GET", path))[0] == 404


async def test_what_an_administrator_may_not_change_here_is_told_to_the_control_plane(
    worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> None:
    nothing = frozenset[Permission]()
    conversation = f"/conversations/{new_id()}"
    roles: list[Role | None] = ["org_admin", "user", None]
    for role in roles:
        caller = await worker.sign_in(instance.org_id, role=role)
        control_plane.admit(caller.user_id, instance.org_id, role, narrowed_to=nothing)
        for method in ("GET", "DELETE"):
            assert (await caller.call(method, conversation))[0] == (403 if role else 404)
        if role == "org_admin":
            (told,) = control_plane.told_changes
            assert (told.method, told.actor_id, told.refused_with) == ("DELETE", caller.user_id, 403)
            assert (told.org_id, told.resource) == (instance.org_id, f"/api/orgs/{instance.org_id}{conversation}")
    assert control_plane.told_changes == [told], "what members and strangers are refused is everyday"


async def test_who_changed_what_here_is_told_to_the_control_plane(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    member: Caller,
    instance: OrchestratorSnapshot,
) -> None:
    admin = await worker.sign_in(member.org_id, role="org_admin")
    made = [(await member.chat(instance.instance_id, "secret plans"))[1]["conversation_id"] for _ in range(2)]
    first, second = [f"/conversations/{conversation_id}" for conversation_id in made]
    assert (await member.call("PATCH", first, json={"title": "canary"}))[0] == 200
    assert (await member.call("DELETE", f"/conversations/{new_id()}"))[0] == 404
    assert (await admin.call("DELETE", f"/conversations/{new_id()}"))[0] == 404
    assert (await admin.call("DELETE", first))[0] == 204

    renamed, refused, deleted = control_plane.told_changes

    assert (renamed.method, renamed.actor_id, renamed.refused_with) == ("PATCH", member.user_id, None)
    assert (refused.method, refused.actor_id, refused.refused_with) == ("DELETE", admin.user_id, 404)
    assert (deleted.resource, deleted.refused_with) == (f"/api/orgs/{member.org_id}{first}", None)
    assert (deleted.actor, deleted.address, bool(deleted.request_id)) == (
        control_plane.grants[admin.user_id, admin.org_id].username,
        "127.0.0.1",
        True,
    )
    assert deleted.route == "/api/orgs/{org_id}/conversations/{conversation_id}"
    assert "canary" not in repr(control_plane.told_changes)
    control_plane.is_away = True
    assert (await admin.call("DELETE", second))[0] == 204


async def test_an_administrator_who_stops_somebody_elses_run_is_told_of_and_one_who_stops_their_own_is_not(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    member: Caller,
    instance: OrchestratorSnapshot,
) -> None:
    admin = await worker.sign_in(member.org_id, role="org_admin")
    gate = asyncio.Event()

    async def wait(request: RunRequest, sink: EventSink) -> None:
        await gate.wait()

    builder.script = wait
    for caller in (member, admin):
        running = asyncio.create_task(caller.chat(instance.instance_id, "wait"))
        await eventually(lambda: worker.worker.table.all())
        (run,) = worker.worker.table.all()
        assert (await admin.call("POST", f"/runs/{run.run_id}/cancel"))[0] == 202
        await running

    (told,) = control_plane.told_changes
    assert (told.method, told.actor_id) == ("POST", admin.user_id)
    assert told.resource.endswith("/cancel")


async def test_a_conversation_is_exported_as_one_file_by_whoever_sees_it(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "EXPORT_BATCH", 3)
    colleague = await worker.sign_in(member.org_id)
    admin = await worker.sign_in(member.org_id, role="org_admin")
    _, made = await member.chat(instance.instance_id, "turn 0")
    for turn in range(1, 4):
        await member.chat(instance.instance_id, f"turn {turn}", conversation_id=made["conversation_id"])
    path = f"/conversations/{made['conversation_id']}"

    async with member.http.get(f"{member.url}{path}/export", headers=member.headers) as answer:
        exported, headers = await answer.json(), answer.headers

    assert exported == {
        "conversation": (await member.call("GET", path))[1],
        "messages": (await member.call("GET", f"{path}/messages"))[1]["items"],
    }
    assert len(exported["messages"]) == 8
    assert headers["Content-Disposition"] == f'attachment; filename="conversation-{made["conversation_id"]}.json"'
    assert (await admin.call("GET", f"{path}/export"))[1] == exported
    assert (await colleague.call("GET", f"{path}/export"))[0] == 404
    assert (await member.call("GET", f"/conversations/{new_id()}/export"))[0] == 404
