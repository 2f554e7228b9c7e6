"""Runs that outlive their client's connection, their worker, and both."""

import asyncio
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from msgspec.structs import replace

from runtime_worker.conversations.base import RunRecord, TurnEnd
from runtime_worker.stream.run_log import events_key
from runtime_worker.stream.story import read_story
from runtime_worker.turn.claims import CLAIMS
from runtime_worker.turn.request import TurnRequest
from runtime_worker.turn.run import Run
from shared.errors import RunEventsGone
from shared.ids import new_id
from shared.security.grants import Grant
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.pairs import (
    Halting,
    Pair,
    messages,
    opening_of,
    resumed,
    text_of,
    until,
)
from tests.integration.runtime_worker.worker import Caller, Stream, eventually


async def test_a_client_that_lost_its_connection_goes_on_at_another_worker_without_gap_or_repetition(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["one ", "two "], ["three ", "four"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        seen = [opening, *await until(stream, "two ")]
    resuming = asyncio.create_task(resumed(pair.there, opening.data["run_id"], seen[-1].id))
    whole = asyncio.create_task(resumed(pair.there, opening.data["run_id"]))
    await asyncio.sleep(0.05)
    script.go_on.set()
    rest = await resuming
    assert text_of(seen) + text_of(rest) == "one two three four"
    numbers = [int(event.id.rpartition(":")[2]) for event in [*seen, *rest]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert (rest[-1].name, rest[-1].data["status"]) == ("metadata", "completed")
    assert await whole == [*seen, *rest]
    # Again afterwards, when all of it is past.
    assert await resumed(pair.here, opening.data["run_id"], seen[-1].id) == rest


async def test_behind_a_runs_last_event_nothing_comes_and_nobody_need_ask_again(
    pair: Pair, instance: OrchestratorSnapshot
) -> None:
    _, answer = await pair.here.chat(instance.instance_id, "hi")
    told = await resumed(pair.there, answer["run_id"])
    assert await resumed(pair.there, answer["run_id"], told[-2].id) == told[-1:]
    path, headers = f"/runs/{answer['run_id']}/stream", pair.there.headers | {"Last-Event-ID": told[-1].id}
    async with pair.there.http.get(pair.there.url + path, headers=headers) as response:
        assert (response.status, await response.read()) == (204, b"")
    stranger = await pair.two.sign_in(instance.org_id)
    async with stranger.http.get(stranger.url + path, headers=headers | stranger.headers) as response:
        assert response.status == 404


async def test_what_cannot_be_resumed_is_told_plainly(pair: Pair, instance: OrchestratorSnapshot) -> None:
    _, answer = await pair.here.chat(instance.instance_id, "hi")
    run, path = answer["run_id"], f"/runs/{answer['run_id']}/stream"

    async def asked(caller: Caller, last_event_id: str | None = None) -> tuple[int, str]:
        headers = caller.headers | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        async with caller.http.get(caller.url + path, headers=headers) as response:
            body = await response.json(content_type=None)
            return response.status, body["code"]

    assert await asked(pair.there, f"{run}:900000") == (410, "OR-0011")
    assert await asked(pair.there, f"{new_id()}:1") == (422, "VA-0002")
    assert await asked(pair.there, f"{run}:-1") == (422, "VA-0002")
    assert (await asked(await pair.two.sign_in(instance.org_id)))[0] == 404
    assert (await asked(await pair.two.sign_in(new_id())))[0] == 404
    await eventually(lambda: pair.one.worker.redis.delete(events_key(UUID(run))))
    pair.two.worker.replays._keep_seconds = 0
    assert await asked(pair.there) == (410, "OR-0011")


async def test_events_that_come_after_the_end_of_their_run_are_waited_for(
    pair: Pair, instance: OrchestratorSnapshot
) -> None:
    events = await pair.here.stream(instance.instance_id, "go")
    run = events[0].data["run_id"]
    redis, key = pair.one.worker.redis, events_key(UUID(run))
    await eventually(lambda: pair.one.worker._turning.journal.is_confirmed)
    # As after an outage of Redis: the run is stored as ended, and its worker has not found Redis again.
    rows: Any = await redis.xrange(key)
    await redis.delete(key)
    resuming = asyncio.create_task(resumed(pair.there, run, events[1].id))
    await asyncio.sleep(0.1)
    for entry_id, fields in rows:
        await redis.xadd(key, fields, id=entry_id)
    assert await resuming == events[2:]


async def test_an_ended_run_whose_events_never_come_is_told_from_the_store(
    pair: Pair, instance: OrchestratorSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_worker.turn.replay.LATE_SECONDS", 0)
    events = await pair.here.stream(instance.instance_id, "go")
    run = events[0].data["run_id"]
    await eventually(lambda: pair.one.worker.redis.delete(events_key(UUID(run))))
    again = await resumed(pair.there, run)
    assert text_of(again) == text_of(events)
    assert again[-1].data["message_id"] == events[-1].data["message_id"]
    (gone,) = await resumed(pair.there, run, events[2].id)
    assert (gone.name, gone.data["code"]) == ("error", RunEventsGone.code)


async def test_a_run_whose_worker_is_lost_ends_elsewhere_with_what_was_shown(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["shown ", "so far "], ["never"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        run, conversation = opening.data["run_id"], opening.data["conversation_id"]
        seen = await until(stream, "so far ")
        following = asyncio.create_task(resumed(pair.there, run))
        await pair.lose(run, instance.org_id)
        followed = await following
        assert (followed[-1].name, followed[-1].data["code"], followed[-1].data["retryable"]) == (
            "error",
            "OR-0007",
            True,
        )
        assert text_of(followed) == text_of(seen)
        starts = [event.data["node"] for event in followed if event.name == "agent_start"]
        assert [event.data["node"] for event in followed if event.name == "agent_end"] == starts
        _, record = await pair.there.call("GET", f"/runs/{run}")
        assert (record["status"], record["error"]["code"]) == ("failed", "OR-0007")
        assert await messages(pair.there, conversation) == [("user", "go"), ("assistant", "shown so far ")]
        # The lost one wakes up and goes on talking. Nobody hears it, not even who still listens there: that connection
        # breaks off, and what became of the run is told to whoever asks for the rest.
        script.go_on.set()
        pair.wake()
        with pytest.raises(aiohttp.ClientPayloadError):
            assert [event async for event in stream] == []
    assert await messages(pair.there, conversation) == [("user", "go"), ("assistant", "shown so far ")]
    assert await resumed(pair.there, run) == followed
    builder.script = Halting([], ["next"])
    builder.script.go_on.set()
    status, answer = await pair.there.chat(instance.instance_id, "again", conversation_id=conversation)
    assert (status, answer["response"]) == (200, "next")


@pytest.mark.parametrize("way", ["orchestrators/{instance}", "central-points/{point}"])
async def test_a_run_that_goes_elsewhere_before_its_response_begins_is_told_whichever_way_it_was_asked_for(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder, control_plane: FakeControlPlane, way: str
) -> None:
    builder.script = script = Halting([], ["hello"])
    point = control_plane.point(instance)
    start = pair.one.worker.turns.start

    async def lost_at_once(grant: Grant, request: TurnRequest) -> Run:
        run = await start(grant, request)
        await pair.lose(str(run.run_id), instance.org_id)
        run.lose()
        script.go_on.set()
        return run

    pair.one.worker.turns.start = lost_at_once  # type: ignore[method-assign]
    to = way.format(instance=instance.instance_id, point=point.central_id)
    url = f"{pair.here.url}/{to}/completion/stream"
    async with pair.here.http.post(url, headers=pair.here.headers, json={"message": "go"}) as response:
        events = [event async for event in Stream(response)]
    assert (text_of(events), events[-1].data["status"]) == ("hello", "completed")
    conversation_id = events[0].data["conversation_id"]
    assert response.headers.get("X-Conversation-Id", conversation_id) == conversation_id


async def test_a_run_that_had_shown_nothing_begins_anew_elsewhere_and_nobody_notices(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting([], ["hello"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        run, conversation = opening.data["run_id"], opening.data["conversation_id"]
        await eventually(lambda: script.begun == 1)
        following = asyncio.create_task(resumed(pair.there, run))
        await pair.lose(run, instance.org_id)
        await eventually(lambda: script.begun == 2)
        script.go_on.set()
        followed = await following
    assert (followed[-1].data["status"], followed[-1].data["saved"]) == ("completed", True)
    assert text_of(followed) == "hello"
    assert [event.name for event in followed].count("metadata") == 2
    numbers = [int(event.id.rpartition(":")[2]) for event in followed]
    assert numbers == list(range(1, len(numbers) + 1))
    assert await messages(pair.there, conversation) == [("user", "go"), ("assistant", "hello")]


async def test_a_chat_completion_that_begins_anew_knows_what_its_request_brought_along(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting([], ["hello"])
    talk = [("user", "one"), ("assistant", "first answer"), ("user", "go")]
    body = {"messages": [{"role": role, "content": content} for role, content in talk], "stream": True}
    url = f"{pair.here.url}/orchestrators/{instance.instance_id}/v1/chat/completions"
    async with pair.here.http.post(url, headers=pair.here.headers, json=body) as response:
        run = response.headers["X-Run-Id"]
        await eventually(lambda: script.begun == 1)
        await pair.lose(run, instance.org_id)
        await eventually(lambda: script.begun == 2)
        script.go_on.set()
        assert text_of(await resumed(pair.there, run)) == "hello"
    first, again = builder.requests
    assert [(m.role, m.content) for m in again.history] == talk[:2]
    assert (again.history, again.message) == (first.history, "go")


async def test_an_end_that_was_stored_and_not_told_is_told_by_another_worker(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = Halting(["one ", "two"], [])
    builder.script.go_on.set()
    events = await pair.here.stream(instance.instance_id, "go")
    run = events[0].data["run_id"]
    key = events_key(UUID(run))
    redis = pair.one.worker.redis
    await eventually(lambda: redis.exists(key))
    # As if the worker had died between storing the end and telling it: the journal lacks the last entries.
    rows: Any = await redis.xrange(key)
    kept = b"".join(fields[b"e"] for _, fields in rows)
    cut = kept.index(b"two")
    await redis.delete(key)
    await redis.xadd(key, {"e": kept[: kept.rindex(b"id: ", 0, cut)]}, id="1-3")
    await redis.zadd(CLAIMS, {f"{instance.org_id}:{run}": 0})
    told = await resumed(pair.there, run)
    assert text_of(told) == "one two"
    assert (told[-1].data["status"], told[-1].data["message_id"]) == ("completed", events[-1].data["message_id"])


async def test_a_claim_that_was_left_behind_is_cleared_away_and_nothing_is_told_twice(
    pair: Pair, instance: OrchestratorSnapshot
) -> None:
    events = await pair.here.stream(instance.instance_id, "hi")
    run = events[0].data["run_id"]
    claim = f"{instance.org_id}:{run}"
    redis = pair.one.worker.redis
    await eventually(lambda: redis.exists(events_key(UUID(run))))
    before = await resumed(pair.there, run)
    await redis.zadd(CLAIMS, {claim: 0})

    async def cleared() -> bool:
        return await redis.zscore(CLAIMS, claim) is None

    await eventually(cleared)
    assert await resumed(pair.there, run) == before == events
    assert (await read_story(redis, UUID(run))).last_seq == len(events)


async def test_the_same_idempotency_key_is_the_same_run(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["a", "b"], ["c"])
    pair.here.headers["Idempotency-Key"] = pair.there.headers["Idempotency-Key"] = "order-1"
    first = asyncio.create_task(pair.here.stream(instance.instance_id, "go"))
    await eventually(lambda: script.begun == 1)
    second = asyncio.create_task(pair.there.stream(instance.instance_id, "go"))
    await asyncio.sleep(0.05)
    script.go_on.set()
    assert await first == await second
    assert await pair.there.stream(instance.instance_id, "go") == await first
    assert script.begun == 1
    async with pair.there.streaming(instance.instance_id, "something else") as stream:
        assert stream.response.status == 409
        assert (await stream.response.json(content_type=None))["code"] == "VA-0006"
    pair.here.headers["Idempotency-Key"] = "order-2"
    answers = [await pair.here.chat(instance.instance_id, "go") for _ in range(2)]
    assert answers[0] == answers[1]
    assert (answers[0][0], answers[0][1]["response"], script.begun) == (200, "abc", 2)


async def test_a_request_that_began_nothing_does_not_use_up_its_key(pair: Pair, instance: OrchestratorSnapshot) -> None:
    pair.here.headers["Idempotency-Key"] = "k"
    unknown = new_id()
    assert (await pair.here.chat(unknown, "hi"))[0] == 404
    assert (await pair.here.chat(unknown, "hi"))[0] == 404
    assert (await pair.here.chat(instance.instance_id, "hi"))[0] == 200


async def test_a_queued_turn_waits_for_the_one_before_it(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["x"], ["y"])
    async with pair.here.streaming(instance.instance_id, "first") as stream:
        conversation = (await opening_of(stream)).data["conversation_id"]
        body = {"conversation_id": conversation}
        assert (await pair.there.chat(instance.instance_id, "refused", **body))[0] == 409
        queued = asyncio.create_task(pair.there.chat(instance.instance_id, "second", concurrency="queue", **body))
        await asyncio.sleep(0.2)
        assert script.begun == 1
        script.go_on.set()
        assert (await queued)[0] == 200
    assert await messages(pair.there, conversation) == [
        ("user", "first"), ("assistant", "xy"), ("user", "second"), ("assistant", "xy"),
    ]  # fmt: skip


async def test_of_two_ends_the_later_epoch_is_believed(pair: Pair, instance: OrchestratorSnapshot) -> None:
    _, answer = await pair.here.chat(instance.instance_id, "hi")
    store = pair.one.worker.store
    stored = await store.find_run(instance.org_id, UUID(answer["run_id"]))
    assert stored is not None

    async def end_as(epoch: int, status: Any) -> RunRecord:
        await store.end_turn(instance.org_id, TurnEnd(run=replace(stored, epoch=epoch, status=status), answer=None))
        found = await store.find_run(instance.org_id, stored.run_id)
        assert found is not None
        return found

    assert (await end_as(3, "failed")).status == "failed"
    assert (await end_as(2, "completed")).status == "failed"
