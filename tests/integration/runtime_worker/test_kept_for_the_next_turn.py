"""What a conversation keeps besides messages: its resource, what was loaded of it, and who answered last."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from runtime_worker.engines.base import EventSink, RunRequest, RunResult
from runtime_worker.models.base import Usage
from runtime_worker.turn.keeping import MAX_ANCHOR_BYTES
from runtime_worker.turn.listing import LISTED_AFTER_SECONDS
from shared.errors import ModelUnavailable
from shared.frameworks import Mode
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import Caller, RunningWorker

ANCHOR = {"title": "Invoice 7", "lines": [{"amount": 12.5, "$currency": "€", "a.b": None}], "big": 2**70}


class Engine:
    """Runs as the builder's script: `loads` is the anchor that a run without one loads, `agents` answer in turn."""

    def __init__(self) -> None:
        self.loads: Mapping[str, Any] | None = ANCHOR
        self.agents: list[str] = []
        self.requests: list[RunRequest] = []

    async def run(self, request: RunRequest, sink: EventSink) -> RunResult:
        self.requests.append(request)
        await say(sink, "fine")
        loaded = self.loads if request.anchor is None else None
        return RunResult("fine", Usage(1, 1), 1, self.agents.pop(0) if self.agents else "planner", anchor=loaded)


@pytest.fixture
def engine(builder: ScriptedBuilder) -> Engine:
    engine = Engine()
    builder.script = engine.run
    return engine


def published(control_plane: FakeControlPlane, mode: Mode, org_id: UUID | None = None) -> OrchestratorSnapshot:
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=org_id or new_id(), mode=mode)
    return control_plane.put(snapshot, tier="demand")


@pytest.fixture
def grounded(control_plane: FakeControlPlane) -> OrchestratorSnapshot:
    return published(control_plane, Mode.GROUNDED)


@pytest.fixture
async def reader(worker: RunningWorker, grounded: OrchestratorSnapshot) -> Caller:
    return await worker.sign_in(grounded.org_id)


async def test_a_resource_is_loaded_once_and_kept_as_it_is(
    reader: Caller, grounded: OrchestratorSnapshot, engine: Engine
) -> None:
    _, first = await reader.chat(grounded.instance_id, "hi", resource_id="inv-7")
    known = {"conversation_id": first["conversation_id"], "resource_id": "inv-7"}
    await reader.chat(grounded.instance_id, "and?", **known)
    await reader.chat(grounded.instance_id, "and?", **known)
    assert [request.anchor for request in engine.requests] == [None, ANCHOR, ANCHOR]
    assert {request.resource_id for request in engine.requests} == {"inv-7"}


async def test_a_grounded_conversation_needs_a_resource_on_every_turn_and_never_another_one(
    reader: Caller, grounded: OrchestratorSnapshot, engine: Engine
) -> None:
    status, problem = await reader.chat(grounded.instance_id, "hi")
    assert (status, problem["errors"][0]["field"]) == (422, "resource_id")
    _, first = await reader.chat(grounded.instance_id, "hi", resource_id="inv-7")
    known = {"conversation_id": first["conversation_id"]}
    assert (await reader.chat(grounded.instance_id, "and?", **known))[0] == 422
    status, problem = await reader.chat(grounded.instance_id, "and?", resource_id="inv-8", **known)
    assert (status, problem["code"]) == (409, "RE-0005")
    assert len(engine.requests) == 1, "nothing was run"
    _, page = await reader.call("GET", f"/conversations/{first['conversation_id']}/messages")
    assert len(page["items"]) == 2, "and nothing stored"
    assert (await reader.chat(grounded.instance_id, "and?", resource_id="inv-7", **known))[0] == 200, "nor locked"
    assert (await reader.chat(grounded.instance_id, "hi", resource_id="inv-8"))[0] == 200


async def test_an_unknown_resource_is_asked_for_again(
    reader: Caller, grounded: OrchestratorSnapshot, engine: Engine
) -> None:
    engine.loads = None
    _, first = await reader.chat(grounded.instance_id, "hi", resource_id="inv-7")
    engine.loads = ANCHOR
    known = {"conversation_id": first["conversation_id"], "resource_id": "inv-7"}
    await reader.chat(grounded.instance_id, "and now?", **known)
    await reader.chat(grounded.instance_id, "and?", **known)
    assert [request.anchor for request in engine.requests] == [None, None, ANCHOR]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_a_run_loaded_is_kept_whether_its_conversation_was_listed_before_or_after(
    reader: Caller, grounded: OrchestratorSnapshot, engine: Engine, builder: ScriptedBuilder, when: str
) -> None:
    async def run(request: RunRequest, sink: EventSink) -> RunResult:
        result = await engine.run(request, sink)
        if result.anchor is None or request.on_anchor is None:
            return result
        if when == "after":
            await asyncio.sleep(2 * LISTED_AFTER_SECONDS)
        request.on_anchor(result.anchor)
        if when == "before":
            await asyncio.sleep(2 * LISTED_AFTER_SECONDS)
        return result

    builder.script = run
    _, first = await reader.chat(grounded.instance_id, "hi", resource_id="inv-7")
    known = {"conversation_id": first["conversation_id"], "resource_id": "inv-7"}
    await reader.chat(grounded.instance_id, "and?", **known)
    assert [request.anchor for request in engine.requests] == [None, ANCHOR]


async def test_what_a_run_loaded_is_kept_also_when_somebody_asked_for_the_conversation_first(
    reader: Caller, grounded: OrchestratorSnapshot, engine: Engine, builder: ScriptedBuilder
) -> None:
    async def run(request: RunRequest, sink: EventSink) -> RunResult:
        result = await engine.run(request, sink)
        if result.anchor is not None and request.on_anchor is not None:
            await sink.recorded()
            assert (await reader.call("GET", f"/conversations/{request.conversation_id}"))[0] == 200
            request.on_anchor(result.anchor)
            await asyncio.sleep(2 * LISTED_AFTER_SECONDS)
        return result

    builder.script = run
    _, first = await reader.chat(grounded.instance_id, "hi", resource_id="inv-7")
    known = {"conversation_id": first["conversation_id"], "resource_id": "inv-7"}
    await reader.chat(grounded.instance_id, "and?", **known)
    assert [request.anchor for request in engine.requests] == [None, ANCHOR]


async def test_what_was_loaded_before_a_run_failed_is_not_loaded_again(
    reader: Caller, grounded: OrchestratorSnapshot, engine: Engine, builder: ScriptedBuilder
) -> None:
    async def run(request: RunRequest, sink: EventSink) -> RunResult:
        result = await engine.run(request, sink)
        if result.anchor is not None and request.on_anchor is not None:
            await sink.recorded()
            request.on_anchor(result.anchor)
            raise ModelUnavailable
        return result

    builder.script = run
    async with reader.streaming(grounded.instance_id, "hi", resource_id="inv-7") as stream:
        events = [event async for event in stream]
    assert events[-1].name == "error"
    known = {"conversation_id": events[0].data["conversation_id"], "resource_id": "inv-7"}
    assert (await reader.chat(grounded.instance_id, "and?", **known))[0] == 200
    assert [request.anchor for request in engine.requests] == [None, ANCHOR]


@pytest.mark.parametrize("unkeepable", [{"text": "x" * MAX_ANCHOR_BYTES}, {"thing": object()}])
async def test_a_resource_that_cannot_be_kept_is_loaded_each_time(
    reader: Caller, grounded: OrchestratorSnapshot, engine: Engine, unkeepable: dict[str, Any]
) -> None:
    engine.loads = unkeepable
    _, first = await reader.chat(grounded.instance_id, "hi", resource_id="inv-7")
    known = {"conversation_id": first["conversation_id"], "resource_id": "inv-7"}
    assert (await reader.chat(grounded.instance_id, "and?", **known))[0] == 200
    assert [request.anchor for request in engine.requests] == [None, None]


async def test_an_anchor_is_nobody_elses(
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    reader: Caller,
    grounded: OrchestratorSnapshot,
    engine: Engine,
) -> None:
    _, first = await reader.chat(grounded.instance_id, "hi", resource_id="inv-7")
    known = {"conversation_id": first["conversation_id"], "resource_id": "inv-7"}
    theirs = published(control_plane, Mode.GROUNDED)
    stranger, colleague = await worker.sign_in(theirs.org_id), await worker.sign_in(grounded.org_id)
    for caller, instance in ((stranger, theirs), (stranger, grounded), (colleague, grounded)):
        assert (await caller.chat(instance.instance_id, "and?", **known))[0] == 404
    await colleague.chat(grounded.instance_id, "hi", resource_id="inv-7")
    await stranger.chat(theirs.instance_id, "hi", resource_id="inv-7")
    assert [request.anchor for request in engine.requests] == [None, None, None]
    for path in (f"/conversations/{first['conversation_id']}", "/conversations"):
        status, shown = await reader.call("GET", path)
        assert status == 200
        assert first["conversation_id"] in str(shown)
        assert "Invoice 7" not in str(shown), "what a plugin loaded is between it and the model"


async def test_other_modes_take_a_resource_without_being_bound_to_it(
    member: Caller, instance: OrchestratorSnapshot, engine: Engine
) -> None:
    _, first = await member.chat(instance.instance_id, "hi", resource_id="a")
    known = {"conversation_id": first["conversation_id"]}
    assert (await member.chat(instance.instance_id, "and?", resource_id="b", **known))[0] == 200
    assert (await member.chat(instance.instance_id, "and?", **known))[0] == 200
    assert [request.resource_id for request in engine.requests] == ["a", "b", None]


async def test_a_handoff_conversation_goes_on_with_whoever_answered_last(
    control_plane: FakeControlPlane, worker: RunningWorker, engine: Engine
) -> None:
    instance = published(control_plane, Mode.HANDOFF)
    member = await worker.sign_in(instance.org_id)
    engine.agents = ["sales", "sales", "support", "support"]
    _, first = await member.chat(instance.instance_id, "hi")
    known = {"conversation_id": first["conversation_id"]}
    for _ in range(3):
        await member.chat(instance.instance_id, "and?", **known)
    assert [request.last_agent for request in engine.requests] == [None, "sales", "sales", "support"]
    await member.chat(instance.instance_id, "hi")
    assert engine.requests[-1].last_agent is None, "a new conversation begins anew"


async def test_a_failed_turn_leaves_what_was_kept(
    control_plane: FakeControlPlane, worker: RunningWorker, engine: Engine, builder: ScriptedBuilder
) -> None:
    instance = published(control_plane, Mode.HANDOFF)
    member = await worker.sign_in(instance.org_id)
    engine.agents = ["sales", "support"]
    _, first = await member.chat(instance.instance_id, "hi")
    known = {"conversation_id": first["conversation_id"]}

    async def fails(request: RunRequest, sink: EventSink) -> None:
        raise ModelUnavailable

    builder.script = fails
    assert (await member.chat(instance.instance_id, "and?", **known))[0] == 502
    builder.script = engine.run
    await member.chat(instance.instance_id, "and?", **known)
    assert engine.requests[-1].last_agent == "sales"
