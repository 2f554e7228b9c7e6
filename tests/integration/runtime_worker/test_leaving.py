"""A worker that leaves in the middle of runs: somebody else goes on with them, and nobody is left hanging."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_worker.engines.base import EventSink, RunRequest
from shared.settings import ServingSettings, WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.pairs import (
    Halting,
    Pair,
    messages,
    opening_of,
    pair_of,
    resumed,
    text_of,
    until,
)
from tests.integration.runtime_worker.worker import Stream, eventually


@pytest.fixture
async def pair(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
    tmp_path: Path,
) -> AsyncIterator[Pair]:
    """Two workers; the first one, when it leaves, waits for nothing."""
    impatient = replace(settings, serving=ServingSettings(drain_seconds=0, heartbeat_seconds=1))
    async with pair_of(impatient, control_plane, instance, builder, tmp_path) as pair:
        yield pair


async def test_a_run_that_was_shown_ends_elsewhere_and_its_client_is_told_before_the_worker_goes(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = Halting(["shown ", "so far"], ["never"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        seen = [opening, *await until(stream, "so far")]
        leaving = asyncio.create_task(pair.one.worker.drain())
        seen += [event async for event in stream]
        await leaving
    assert (seen[-1].name, seen[-1].data["code"], seen[-1].data["retryable"]) == ("error", "OR-0007", True)
    run, conversation = opening.data["run_id"], opening.data["conversation_id"]
    assert await resumed(pair.there, run) == seen
    assert (await pair.there.call("GET", f"/runs/{run}"))[1]["status"] == "failed"
    assert await messages(pair.there, conversation) == [("user", "go"), ("assistant", "shown so far")]
    builder.script = say_next
    body = {"conversation_id": conversation}
    assert (await pair.there.chat(instance.instance_id, "again", **body))[1]["response"] == "next"


async def say_next(request: RunRequest, sink: EventSink) -> None:
    await say(sink, "next")


async def test_a_run_that_had_shown_nothing_begins_anew_elsewhere_once_and_its_client_gets_the_answer(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting([], ["hello"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        await eventually(lambda: script.begun == 1)
        leaving = asyncio.create_task(pair.one.worker.drain())
        await eventually(lambda: script.begun == 2)
        script.go_on.set()
        events = [opening, *[event async for event in stream]]
        await leaving
    assert (text_of(events), events[-1].data["status"], script.begun) == ("hello", "completed", 2)
    assert [int(event.id.rpartition(":")[2]) for event in events] == list(range(1, len(events) + 1))
    assert await messages(pair.there, opening.data["conversation_id"]) == [("user", "go"), ("assistant", "hello")]


async def test_who_waits_for_a_whole_answer_gets_the_one_that_another_worker_made(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting([], ["hello"])
    asking = asyncio.create_task(pair.here.chat(instance.instance_id, "go"))
    await eventually(lambda: script.begun == 1)
    leaving = asyncio.create_task(pair.one.worker.drain())
    await eventually(lambda: script.begun == 2)
    script.go_on.set()
    status, answer = await asking
    assert (status, answer["response"]) == (200, "hello")
    await leaving


async def test_a_stream_that_outlasts_the_leaving_worker_ends_without_a_last_event_and_is_resumed(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_worker.turn.handover.FOLLOW_SECONDS", 0.5)
    builder.script = script = Halting([], ["hello"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        await pair.one.worker.drain()
        seen = [opening, *[event async for event in stream]]
    assert not any(event.name == "error" or event.data.get("final") for event in seen)
    script.go_on.set()
    rest = await resumed(pair.there, opening.data["run_id"], seen[-1].id)
    assert (text_of(rest), rest[-1].data["status"]) == ("hello", "completed")


async def test_who_follows_another_workers_run_here_is_let_go_of(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["begin "], ["end"])
    async with pair.there.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        run = opening.data["run_id"]
        async with pair.here.http.get(f"{pair.here.url}/runs/{run}/stream", headers=pair.here.headers) as response:
            following = Stream(response)
            seen = await until(following, "begin ")
            await pair.one.worker.drain()
            seen += [event async for event in following]
        script.go_on.set()
        rest = await resumed(pair.there, run, seen[-1].id)
    assert text_of([*seen, *rest]) == "begin end"


async def test_a_user_who_cancels_is_told_so_also_while_the_worker_leaves(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = Halting(["begin"], [])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        await opening_of(stream)
        await until(stream, "begin")
        (run,) = pair.one.worker.table.all()
        run.cancel()
        await pair.one.worker.drain()
        assert [event async for event in stream][-1].data["status"] == "cancelled"
