"""Central points at a worker: the instance behind one changes and nobody notices; guests are let in, and held apart."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import openai
import pytest
from faststream.nats import NatsBroker
from multidict import CIMultiDictProxy
from openai import AsyncOpenAI

from runtime_worker.engines.base import EventSink, RunRequest, RunResult
from runtime_worker.models.base import Usage
from shared.clock import SystemClock
from shared.events import CentralPointChanged, encode_event, routing_key
from shared.events.topology import STREAM
from shared.frameworks import Mode
from shared.ids import new_id
from shared.security import conversation_tokens
from shared.security.grants import GrantInvalidator
from shared.security.organizations import OrganizationState
from shared.snapshots import CentralPointChange, OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.test_kept_for_the_next_turn import published
from tests.integration.runtime_worker.worker import Caller, RunningWorker, Stream, eventually

HI: list[Any] = [{"role": "user", "content": "hi"}]


class Guest:
    """Somebody without a session at a point, calling from an address of their own."""

    def __init__(self, worker: RunningWorker, point: CentralPointChange, address: str = "198.51.100.7") -> None:
        self.http = worker.http
        self.url = f"{worker.url}/api/orgs/{point.org_id}/central-points/{point.central_id}"
        self.headers = {"X-Forwarded-For": address}

    async def chat(self, message: str = "hi", **body: Any) -> tuple[int, Any, CIMultiDictProxy[str]]:
        url = self.url + "/completion/chat"
        async with self.http.post(url, json={"message": message, **body}, headers=self.headers) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers


@pytest.fixture
def other(control_plane: FakeControlPlane, instance: OrchestratorSnapshot) -> OrchestratorSnapshot:
    """A second instance of the organization."""
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=instance.org_id)
    return control_plane.put(snapshot, tier="demand", config_hash="f" * 64)


@pytest.fixture
async def point(
    control_plane: FakeControlPlane, worker: RunningWorker, instance: OrchestratorSnapshot
) -> CentralPointChange:
    """A private one, which the worker has not heard of yet."""
    return control_plane.point(instance)


@pytest.fixture
async def public(
    control_plane: FakeControlPlane, worker: RunningWorker, instance: OrchestratorSnapshot
) -> CentralPointChange:
    return await known(worker, control_plane.point(instance, visibility="public"))


async def known(worker: RunningWorker, point: CentralPointChange) -> CentralPointChange:
    """The same, once the worker has heard of it."""
    await worker.worker.reconciler.look()
    return point


async def through(member: Caller, point: CentralPointChange, message: str = "hi", **body: Any) -> tuple[int, Any]:
    path = f"/central-points/{point.central_id}/completion/chat"
    return await member.call("POST", path, json={"message": message, **body})


async def test_a_point_that_was_made_a_moment_ago_answers(member: Caller, point: CentralPointChange) -> None:
    status, answer = await through(member, point)
    assert (status, answer["response"], answer["conversation_token"]) == (200, "You said: hi", None)
    path = f"{member.url}/central-points/{point.central_id}/completion/stream"
    async with member.http.post(path, headers=member.headers, json={"message": "hi"}) as response:
        events = [event async for event in Stream(response)]
    assert events[0].data["instance_id"] == str(point.instance_id)
    assert events[-1].data["status"] == "completed"


async def test_an_openai_client_talks_to_a_point(member: Caller, point: CentralPointChange) -> None:
    url = f"{member.url}/central-points/{point.central_id}/v1"
    token = member.headers["Authorization"].removeprefix("Bearer ")
    async with AsyncOpenAI(base_url=url, api_key=token, max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == [str(point.central_id)]
        answer = await client.chat.completions.create(model="any", messages=HI)
        assert (answer.choices[0].message.content, answer.model) == ("You said: hi", str(point.central_id))


async def test_a_swap_is_right_as_soon_as_its_event_is_there(
    worker: RunningWorker,
    member: Caller,
    point: CentralPointChange,
    other: OrchestratorSnapshot,
    control_plane: FakeControlPlane,
    nats_server_url: str,
) -> None:
    await through(member, point)
    swapped = control_plane.point(other, point.central_id)
    event = CentralPointChanged(
        event_id=new_id(),
        revision=swapped.revision,
        occurred_at=SystemClock().now(),
        org_id=point.org_id,
        central_id=point.central_id,
    )
    async with NatsBroker(nats_server_url, logger=None) as broker:
        await broker.publish(encode_event(event), routing_key(event), stream=STREAM)
    points = worker.worker.central_points

    def is_there() -> bool:
        found = points.find(point.org_id, point.central_id)
        return found is not None and found.instance_id == other.instance_id

    # Well before it would ask by itself.
    await eventually(is_there, 1.0)


async def test_a_conversation_goes_on_with_the_next_instance(
    worker: RunningWorker,
    member: Caller,
    point: CentralPointChange,
    other: OrchestratorSnapshot,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
) -> None:
    _, first = await through(member, point, "one")
    await known(worker, control_plane.point(other, point.central_id))
    status, second = await through(member, point, "two", conversation_id=first["conversation_id"])

    assert (status, second["conversation_id"]) == (200, first["conversation_id"])
    assert [m.content for m in builder.requests[1].history] == ["one", "You said: one"]
    _, conversation = await member.call("GET", f"/conversations/{first['conversation_id']}")
    assert conversation["instance_id"] == str(other.instance_id)
    # One that began elsewhere does not.
    _, elsewhere = await member.chat(point.instance_id, "hi")
    status, problem = await through(member, point, "hi", conversation_id=elsewhere["conversation_id"])
    assert (status, problem["code"]) == (409, "RE-0005")


async def test_what_one_instance_kept_of_a_resource_is_not_given_to_the_next(
    worker: RunningWorker, control_plane: FakeControlPlane, builder: ScriptedBuilder
) -> None:
    async def loads(request: RunRequest, sink: EventSink) -> RunResult:
        await say(sink, "fine")
        return RunResult("fine", Usage(1, 1), 1, "planner", anchor={"loaded by": str(request.run_id)})

    builder.script = loads
    first = published(control_plane, Mode.GROUNDED)
    second = published(control_plane, Mode.GROUNDED, first.org_id)
    point = control_plane.point(first)
    member = await worker.sign_in(first.org_id)
    _, answer = await through(member, point, resource_id="r")
    conversation = {"conversation_id": answer["conversation_id"], "resource_id": "r"}
    await through(member, point, **conversation)
    await known(worker, control_plane.point(second, point.central_id))
    await through(member, point, **conversation)
    await through(member, point, **conversation)

    assert [request.anchor is not None for request in builder.requests] == [False, True, False, True]


async def test_ten_swaps_under_twenty_streams_fail_none(
    worker: RunningWorker,
    member: Caller,
    point: CentralPointChange,
    instance: OrchestratorSnapshot,
    other: OrchestratorSnapshot,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
) -> None:
    async def slowly(request: RunRequest, sink: EventSink) -> None:
        for number in range(5):
            await say(sink, f"{number} ")
            await asyncio.sleep(0.01)

    builder.script = slowly
    hashes = {str(s.instance_id): s.config_hash for s in (instance, other)}
    path = f"{member.url}/central-points/{point.central_id}/completion/stream"
    is_over = asyncio.Event()
    seen: list[str] = []

    async def talk() -> None:
        body = {"message": "hi", "concurrency": "queue"}
        while not is_over.is_set():
            async with member.http.post(path, headers=member.headers, json=body) as response:
                assert response.status == 200, await response.text()
                events = [event async for event in Stream(response)]
            assert events[-1].data["status"] == "completed", events[-1]
            opening = events[0].data
            assert opening["config_hash"] == hashes[opening["instance_id"]]
            assert "".join(e.data["content"] for e in events if e.name == "message") == "0 1 2 3 4 "
            seen.append(opening["instance_id"])
            body["conversation_id"] = opening["conversation_id"]

    async def swap() -> None:
        try:
            for number in range(10):
                await asyncio.sleep(0.1)
                to, away = ((other, instance), (instance, other))[number % 2]
                control_plane.put(to, status="active")
                control_plane.point(to, point.central_id)
                # Nothing leads there any more, so it may go at once.
                control_plane.put(away, status="suspended")
                await worker.worker.reconciler.look()
                before = len(seen)
                await eventually(lambda: str(to.instance_id) in seen[before:])  # noqa: B023 - waited for right here
        finally:
            is_over.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(talk())
        group.create_task(swap())
    assert set(seen) == hashes.keys()


async def test_a_guest_talks_to_a_public_point_and_goes_on_by_token_alone(
    worker: RunningWorker, public: CentralPointChange, builder: ScriptedBuilder
) -> None:
    guest = Guest(worker, public)
    status, first, headers = await guest.chat("one")
    assert (status, first["response"]) == (200, "You said: one")
    assert headers["X-Conversation-Token"] == first["conversation_token"]
    status, second, _ = await guest.chat("two", conversation_token=first["conversation_token"])
    assert (status, second["conversation_id"]) == (200, first["conversation_id"])
    assert [m.content for m in builder.requests[1].history] == ["one", "You said: one"]

    # The id alone, an unknown id, and the id with the token of another conversation look alike.
    _, another, _ = await Guest(worker, public).chat("mine")
    token = {"conversation_token": another["conversation_token"]}
    problems = []
    for body in (
        {"conversation_id": first["conversation_id"]},
        {"conversation_id": str(new_id())},
        {"conversation_id": first["conversation_id"], **token},
    ):
        status, problem, _ = await guest.chat("three", **body)
        assert status == 404
        problems.append({**problem, "request_id": ""})
    assert problems[0] == problems[1] == problems[2]


async def test_a_token_counts_at_its_point_and_for_its_time(
    worker: RunningWorker, public: CentralPointChange, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> None:
    _, first, _ = await Guest(worker, public).chat()
    token = first["conversation_token"]
    elsewhere = await known(worker, control_plane.point(instance, visibility="public"))
    head, _, _ = token.rpartition(".")
    clock = worker.worker.conversation_tokens._clock

    class Later:
        def now(self) -> Any:
            return clock.now() + conversation_tokens.LIFETIME + timedelta(seconds=1)

    for at, presented in ((elsewhere, token), (public, head + ".AAAA"), (public, "nonsense")):
        status, problem, _ = await Guest(worker, at).chat(conversation_token=presented)
        assert (status, problem["code"]) == (401, "AU-0005")
    worker.worker.conversation_tokens._clock = Later()  # type: ignore[assignment]
    status, problem, _ = await Guest(worker, public).chat(conversation_token=token)
    assert (status, problem["code"]) == (401, "AU-0005")


async def test_a_guest_sees_nothing_else_of_the_organization(
    worker: RunningWorker, public: CentralPointChange, member: Caller
) -> None:
    guest = Guest(worker, public)
    _, first, _ = await guest.chat("secret plans")
    token = {
        "Authorization": f"Bearer {first['conversation_token']}",
        "X-Conversation-Token": first["conversation_token"],
    }
    org = f"{worker.url}/api/orgs/{public.org_id}"
    for headers in ({}, token):
        for path in (
            "/conversations",
            f"/conversations/{first['conversation_id']}",
            f"/conversations/{first['conversation_id']}/messages",
            f"/runs/{first['run_id']}",
            f"/runs/{first['run_id']}/stream",
            f"/orchestrators/{public.instance_id}/v1/models",
        ):
            async with worker.http.get(org + path, headers=headers) as answer:
                assert answer.status == 401, path
    # Nor does a member see theirs.
    assert (await member.call("GET", f"/conversations/{first['conversation_id']}"))[0] == 404
    assert (await through(member, public, conversation_id=first["conversation_id"]))[0] == 404


async def test_a_private_point_looks_to_a_guest_like_none(
    worker: RunningWorker, point: CentralPointChange, public: CentralPointChange, control_plane: FakeControlPlane
) -> None:
    await known(worker, point)
    answers = []
    unknown = CentralPointChange(new_id(), point.org_id, 1, "", point.instance_id, "public", 1, 1)
    foreign = CentralPointChange(public.central_id, new_id(), 1, "", point.instance_id, "public", 1, 1)
    for at in (point, unknown, foreign):
        status, problem, headers = await Guest(worker, at).chat()
        problem["instance"] = problem["request_id"] = ""
        kept = {name for name in headers if name.lower() != "date"}
        answers.append((status, problem, kept))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 401
    gone = control_plane.points[public.central_id]
    control_plane.points[public.central_id] = CentralPointChange(
        gone.central_id, gone.org_id, control_plane.revision + 1, "", gone.instance_id, "public", 1, 1, is_deleted=True
    )
    control_plane.revision += 1
    await worker.worker.reconciler.look()
    assert (await Guest(worker, public).chat())[0] == 401


async def test_somebody_of_another_organization_is_a_guest_like_any_other(
    worker: RunningWorker, public: CentralPointChange, point: CentralPointChange
) -> None:
    stranger = await worker.sign_in(new_id())
    path = f"{worker.url}/api/orgs/{public.org_id}/central-points"
    async with worker.http.post(
        f"{path}/{public.central_id}/completion/chat", headers=stranger.headers, json={"message": "hi"}
    ) as answer:
        assert (answer.status, bool((await answer.json())["conversation_token"])) == (200, True)
    async with worker.http.post(
        f"{path}/{point.central_id}/completion/chat", headers=stranger.headers, json={"message": "hi"}
    ) as answer:
        assert answer.status == 404
    bad = {"Authorization": "Bearer nonsense"}
    async with worker.http.post(
        f"{path}/{public.central_id}/completion/chat", headers=bad, json={"message": "hi"}
    ) as answer:
        assert answer.status == 401


async def test_guests_have_limits_of_their_own_each_and_together(
    worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, member: Caller
) -> None:
    limits: dict[str, Any] = {"visibility": "public", "requests_per_minute": 4, "requests_per_minute_per_address": 2}
    point = await known(worker, control_plane.point(instance, **limits))
    one = Guest(worker, point, "6.6.6.6, 198.51.100.7")
    assert [(await one.chat())[0] for _ in range(3)] == [200, 200, 429]
    # What a caller writes in front of what the gateway saw makes nobody else of them.
    status, problem, headers = await Guest(worker, point, "7.7.7.7, 198.51.100.7").chat()
    assert (status, problem["code"], headers["RateLimit-Limit"]) == (429, "RL-0001", "2")
    assert int(headers["Retry-After"]) >= 1
    two = [Guest(worker, point, f"2001:db8::{n}") for n in (1, 2)]
    assert [(await guest.chat())[0] for guest in (*two, two[0])] == [200, 200, 429]
    status, _, headers = await Guest(worker, point, "198.51.100.9").chat()
    assert (status, headers["RateLimit-Limit"]) == (429, "4")
    # Whoever belongs here is no guest.
    assert (await through(member, point))[0] == 200


async def test_a_suspended_organizations_point_stops_at_once(
    worker: RunningWorker, public: CentralPointChange, control_plane: FakeControlPlane
) -> None:
    guest = Guest(worker, public)
    assert (await guest.chat())[0] == 200
    control_plane.organizations[public.org_id] = OrganizationState("suspended")
    await GrantInvalidator(worker.worker.redis).organization_changed(public.org_id)
    status, problem, _ = await guest.chat()
    assert (status, problem["code"]) == (403, "AZ-0002")
    control_plane.organizations[public.org_id] = OrganizationState(None)
    await GrantInvalidator(worker.worker.redis).organization_changed(public.org_id)
    assert (await guest.chat())[0] == 401


async def test_an_openai_client_without_a_key_is_a_guest(
    worker: RunningWorker, public: CentralPointChange, builder: ScriptedBuilder
) -> None:
    guest = Guest(worker, public)
    async with AsyncOpenAI(base_url=guest.url + "/v1", api_key="public", max_retries=0) as client:
        first = await client.chat.completions.create(model="any", messages=HI)
        names = first.to_dict()["metadata"]
        assert isinstance(names, dict)
        token = str(names["conversation_token"])
        stream = await client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "two"}],
            metadata={"conversation_token": token},
            stream=True,
        )
        assert stream.response.headers["x-conversation-id"] == names["conversation_id"]
        assert stream.response.headers["x-conversation-token"]
        assert [chunk async for chunk in stream]
        assert [m.content for m in builder.requests[1].history] == ["hi", "You said: hi"]
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="any", messages=HI, metadata={"conversation_token": "made up"})
        assert refused.value.code == "AU-0005"
        private = client.with_options(base_url=guest.url.replace(str(public.central_id), str(new_id())) + "/v1")
        with pytest.raises(openai.AuthenticationError):
            await private.models.list()


async def test_without_the_control_plane_points_that_are_known_go_on(
    worker: RunningWorker, member: Caller, public: CentralPointChange, control_plane: FakeControlPlane
) -> None:
    guest = Guest(worker, public)
    await guest.chat()
    await through(member, public)
    control_plane.is_away = True
    assert (await guest.chat())[0] == 200
    assert (await through(member, public))[0] == 200
    unknown = CentralPointChange(UUID(int=0), public.org_id, 1, "", public.instance_id, "private", 1, 1)
    status, problem = await through(member, unknown)
    assert (status, problem["code"]) == (503, "DB-0001")
