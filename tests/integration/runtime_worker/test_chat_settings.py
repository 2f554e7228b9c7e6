"""What an organization's settings and an instance's configuration mean for those who chat."""

import asyncio

import msgspec

from runtime_worker.engines.base import EventSink, RunRequest
from shared.chat_settings import ChatSettings
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually


def put(control_plane: FakeControlPlane, instance: OrchestratorSnapshot, chat: ChatSettings) -> OrchestratorSnapshot:
    """The instance under other settings, as the control plane publishes it: with another hash."""
    return control_plane.put(instance, chat=chat, config_hash=str(new_id()))


async def test_how_long_a_message_may_be_is_a_setting_that_takes_effect_while_the_instance_serves(
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    member: Caller,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
) -> None:
    assert (await member.chat(instance.instance_id, "x" * 50))[0] == 200
    put(control_plane, instance, ChatSettings(max_message_chars=49))
    worker.worker.reconciler.poke()

    async def is_refused() -> bool:
        status, _ = await member.chat(instance.instance_id, "x" * 50)
        return bool(status == 422)

    await eventually(is_refused)
    asked = len(builder.requests)
    status, problem = await member.chat(instance.instance_id, "x" * 50)
    assert (status, problem["code"], problem["errors"][0]["field"]) == (422, "VA-0002", "message")
    assert "49" in problem["detail"]
    assert len(builder.requests) == asked, "nothing was run"
    assert (await member.chat(instance.instance_id, "x" * 49))[0] == 200
    assert len((await member.call("GET", "/conversations"))[1]["items"]) == asked + 1, "and nothing was stored"


async def test_a_longer_message_is_taken_where_the_setting_allows_it(
    control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    put(control_plane, instance, ChatSettings(max_message_chars=100_000))
    assert (await member.chat(instance.instance_id, "ü" * 100_000))[0] == 200


async def test_what_happens_when_a_client_leaves_is_a_setting_that_a_request_can_overrule(
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    member: Caller,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
) -> None:
    go_on = asyncio.Event()

    async def patient(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "first ")
        await go_on.wait()

    builder.script = patient
    put(control_plane, instance, ChatSettings(on_disconnect="cancel"))
    runs = []
    for body in ({}, {"on_disconnect": "continue"}):
        async with member.streaming(instance.instance_id, "go", **body) as stream:
            opening = await stream.next()
            assert opening is not None
            runs.append(opening.data["run_id"])
            stream.response.close()
    await eventually(lambda: len(worker.worker.table) == 1)
    go_on.set()
    await eventually(lambda: len(worker.worker.table) == 0)
    statuses = [(await member.call("GET", f"/runs/{run_id}"))[1]["status"] for run_id in runs]
    assert statuses == ["cancelled", "completed"]


async def test_conversation_starters_are_there_before_anything_is_built(
    control_plane: FakeControlPlane, worker: RunningWorker, builder: ScriptedBuilder
) -> None:
    asked = ["What can you do?", "Wie ist das Wetter?"]
    snapshot = instance_snapshot(
        llm_config_snapshot("http://model.test/v1"), org_id=new_id(), conversation_starters=asked
    )
    instance = control_plane.put(snapshot, tier="demand")
    member, stranger = await worker.sign_in(instance.org_id), await worker.sign_in(new_id())
    path = f"/orchestrators/{instance.instance_id}/completion/starters"

    assert await member.call("GET", path) == (200, {"starters": asked})
    assert builder.builds == []
    assert (await stranger.call("GET", path))[0] == 404
    control_plane.put(msgspec.structs.replace(instance, status="suspended"))
    worker.worker.reconciler.poke()
    await eventually(lambda: worker.worker.reconciler._since == control_plane.revision)
    assert (await member.call("GET", path))[0] == 503
