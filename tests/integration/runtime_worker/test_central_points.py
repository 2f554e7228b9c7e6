"""Central points at a worker: the instance behind one changes and nobody notices."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from faststream.nats import NatsBroker
from openai import AsyncOpenAI

from runtime_worker.engines.base import EventSink, RunRequest, RunResult
from runtime_worker.models.base import Usage
from shared.clock import SystemClock
from shared.events import CentralPointChanged, encode_event, routing_key
from shared.events.topology import STREAM
from shared.frameworks import Mode
from shared.ids import new_id
from shared.snapshots import CentralPointChange, OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.central_points import Guest, known, through
from tests.integration.runtime_worker.central_points import point as point
from tests.integration.runtime_worker.central_points import public as public
from tests.integration.runtime_worker.test_kept_for_the_next_turn import published
from tests.integration.runtime_worker.worker import Caller, RunningWorker, Stream, eventually

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def other(control_plane: FakeControlPlane, instance: OrchestratorSnapshot) -> OrchestratorSnapshot:
    """A second instance of the organization."""
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=instance.org_id)
    return control_plane.put(snapshot, tier="demand", config_hash="f" * 64)


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


async def test_a_swap_fails_nobody_where_the_instance_is_known_to_be_gone_before_the_point_is_known_to_lead_elsewhere(
    worker: RunningWorker,
    member: Caller,
    point: CentralPointChange,
    instance: OrchestratorSnapshot,
    other: OrchestratorSnapshot,
    control_plane: FakeControlPlane,
) -> None:
    await worker.worker.reconciler.look()
    control_plane.put(other, status="active")
    control_plane.point(other, point.central_id)
    control_plane.put(instance, status="suspended")
    # As a build does, which is shown the newest.
    await worker.worker.pool._fetch_snapshot(instance.instance_id)
    path = f"{member.url}/central-points/{point.central_id}/completion/stream"
    async with member.http.post(path, headers=member.headers, json={"message": "hi"}) as response:
        assert response.status == 200, await response.text()
        events = [event async for event in Stream(response)]

    assert events[0].data["instance_id"] == str(other.instance_id)


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
