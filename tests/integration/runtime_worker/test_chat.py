import asyncio
from typing import Any

from runtime_worker.engines.base import EventSink, RunRequest, RunResult
from runtime_worker.models.base import ModelMessage, ModelToolCall, Usage
from shared.errors import ModelUnavailable
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.orchestrators import NODE, ScriptedBuilder, say
from tests.integration.runtime_worker.worker import Caller, Event, RunningWorker, eventually


def text_of(events: list[Event]) -> str:
    return "".join(e.data["content"] for e in events if e.name == "message")


async def test_a_stream_starts_and_ends_with_metadata_and_its_text_is_stored(
    member: Caller, instance: OrchestratorSnapshot
) -> None:
    async with member.streaming(instance.instance_id, "Hello") as stream:
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-cache, no-transform"
        assert stream.response.headers["X-Accel-Buffering"] == "no"
        events = [event async for event in stream]
    first, last = events[0], events[-1]
    assert [e.name for e in events] == ["metadata", "agent_start", "message", "message", "agent_end", "metadata"]
    assert first.data["instance_id"] == str(instance.instance_id)
    assert first.data["config_hash"] == instance.config_hash
    assert [e.id for e in events] == [f"{first.data['run_id']}:{n}" for n in range(1, 7)]
    assert last.data["final"] is True
    assert (last.data["status"], last.data["saved"]) == ("completed", True)
    assert last.data["usage"]["input_tokens"] == 10
    _, page = await member.call("GET", f"/conversations/{first.data['conversation_id']}/messages")
    assert [(m["role"], m["content"]) for m in page["items"]] == [("user", "Hello"), ("assistant", text_of(events))]
    assert page["items"][1]["message_id"] == last.data["message_id"]
    _, run = await member.call("GET", f"/runs/{first.data['run_id']}")
    assert (run["status"], run["last_seq"]) == ("completed", len(events))


async def test_a_chat_answers_with_the_whole_response(member: Caller, instance: OrchestratorSnapshot) -> None:
    status, answer = await member.chat(instance.instance_id, "Hello")
    assert status == 200
    assert answer["response"] == "You said: Hello"
    assert set(answer) == {
        "run_id",
        "conversation_id",
        "message_id",
        "response",
        "agent_hops",
        "current_agent",
        "usage",
    }


async def test_the_instance_may_be_named_in_the_body(member: Caller, instance: OrchestratorSnapshot) -> None:
    body = {"message": "Hi", "instance_id": str(instance.instance_id)}
    status, answer = await member.call("POST", "/completion/chat", json=body)
    assert (status, answer["response"]) == (200, "You said: Hi")
    async with member.http.post(member.url + "/completion/stream", headers=member.headers, json=body) as response:
        assert b"event: message" in await response.read()


async def test_the_next_turn_sees_the_one_before_with_its_tool_calls(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    call = ModelMessage("assistant", "", (ModelToolCall("c1", "add", '{"a":1}'),))
    result = ModelMessage("tool", "3", tool_call_id="c1")

    async def with_tool(request: RunRequest, sink: EventSink) -> RunResult:
        await say(sink, "It is 3.")
        return RunResult("It is 3.", Usage(1, 2), 1, "a", tool_messages=(call, result))

    builder.script = with_tool
    _, first = await member.chat(instance.instance_id, "add 1 and 2")
    await member.chat(instance.instance_id, "and again", conversation_id=first["conversation_id"])
    assert builder.requests[1].history == (
        ModelMessage("user", "add 1 and 2"),
        call,
        result,
        ModelMessage("assistant", "It is 3."),
    )
    _, conversation = await member.call("GET", f"/conversations/{first['conversation_id']}")
    assert conversation["message_count"] == 4
    _, page = await member.call("GET", f"/conversations/{first['conversation_id']}/messages")
    assert page["items"][1]["tool_calls"] == [{"call_id": "c1", "tool": "add", "arguments": '{"a":1}', "result": "3"}]


async def test_only_the_newest_messages_are_shown_to_the_model(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    _, first = await member.chat(instance.instance_id, "0")
    for n in range(1, 5):
        await member.chat(instance.instance_id, str(n), conversation_id=first["conversation_id"])
    history = [m.content for m in builder.requests[-1].history]
    assert history == ["You said: 1", "2", "You said: 2", "3", "You said: 3"]


async def test_a_second_message_during_a_run_is_refused_with_the_running_runs_id(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()
    _, first = await member.chat(instance.instance_id, "start")

    async def slow(request: RunRequest, sink: EventSink) -> None:
        await go_on.wait()

    builder.script = slow
    async with member.streaming(instance.instance_id, "a", conversation_id=first["conversation_id"]) as stream:
        opening = await stream.next()
        assert opening is not None
        status, problem = await member.chat(instance.instance_id, "b", conversation_id=first["conversation_id"])
        assert (status, problem["code"]) == (409, "OR-0004")
        assert opening.data["run_id"] in problem["detail"]
        status, problem = await member.call("DELETE", f"/conversations/{first['conversation_id']}")
        assert (status, problem["code"]) == (409, "OR-0004")
        go_on.set()
        assert [e.name async for e in stream] == ["metadata"]
    # The moment the last event is read, the conversation is free.
    status, _ = await member.chat(instance.instance_id, "c", conversation_id=first["conversation_id"])
    assert status == 200


async def test_a_cancelled_run_ends_as_such_and_keeps_what_was_shown(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    was_cancelled = asyncio.Event()

    async def endless(request: RunRequest, sink: EventSink) -> None:
        sink.agent_start("assistant", NODE)
        await say(sink, "Once upon")
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    builder.script = endless
    async with member.streaming(instance.instance_id, "tell") as stream:
        opening = await stream.next()
        assert opening is not None
        run_path = f"/runs/{opening.data['run_id']}"
        assert (await member.call("GET", run_path))[1]["status"] == "running"
        while (event := await stream.next()) and event.name != "message":
            pass
        assert (await member.call("POST", run_path + "/cancel"))[0] == 202
        rest = [event async for event in stream]
    assert [e.name for e in rest] == ["agent_end", "metadata"]
    assert rest[-1].data["status"] == "cancelled"
    assert was_cancelled.is_set()
    assert (await member.call("GET", run_path))[1]["status"] == "cancelled"
    _, page = await member.call("GET", f"/conversations/{opening.data['conversation_id']}/messages")
    assert (page["items"][1]["content"], page["items"][1]["status"]) == ("Once upon", "partial")


async def test_a_run_that_has_ended_cannot_be_cancelled(member: Caller, instance: OrchestratorSnapshot) -> None:
    _, answer = await member.chat(instance.instance_id, "hi")
    status, problem = await member.call("POST", f"/runs/{answer['run_id']}/cancel")
    assert (status, problem["code"]) == (409, "RE-0005")


async def test_a_failing_model_keeps_the_partial_answer_and_ends_with_an_error_event(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    async def breaks(request: RunRequest, sink: EventSink) -> None:
        sink.agent_start("assistant", NODE)
        await say(sink, "Half an")
        raise ModelUnavailable

    builder.script = breaks
    events = await member.stream(instance.instance_id, "go")
    assert [e.name for e in events] == ["metadata", "agent_start", "message", "agent_end", "error"]
    assert events[-1].data == {
        "code": "LL-0005",
        "message": "The model provider is unavailable",
        "retryable": True,
    }
    _, page = await member.call("GET", f"/conversations/{events[0].data['conversation_id']}/messages")
    assert (page["items"][1]["content"], page["items"][1]["status"]) == ("Half an", "partial")
    _, run = await member.call("GET", f"/runs/{events[0].data['run_id']}")
    assert (run["status"], run["error"]["code"]) == ("failed", "LL-0005")
    status, problem = await member.chat(instance.instance_id, "go")
    assert (status, problem["code"]) == (502, "LL-0005")


async def test_a_crash_in_an_engine_shows_nothing_of_itself(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    async def crashes(request: RunRequest, sink: EventSink) -> None:
        raise KeyError("sk-very-secret")

    builder.script = crashes
    events = await member.stream(instance.instance_id, "go")
    assert events[-1].data == {"code": "OR-0006", "message": "The run failed", "retryable": True}


async def test_a_run_that_takes_too_long_ends_with_an_error(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    async def endless(request: RunRequest, sink: EventSink) -> None:
        await asyncio.Event().wait()

    builder.script = endless
    config: dict[str, Any] = {**instance.config}
    config["mode_config"] = {**config["mode_config"], "run_timeout": 0.1}
    revision = worker.control_plane.put(instance, config=config, config_hash="short").revision
    worker.worker.reconciler.poke()
    await eventually(lambda: worker.worker.pool._index.known_revision(instance.instance_id) == revision)
    events = await member.stream(instance.instance_id, "go")
    assert (events[-1].name, events[-1].data["code"]) == ("error", "OR-0005")


async def test_a_run_goes_on_and_is_saved_when_its_client_leaves(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder, worker: RunningWorker
) -> None:
    go_on = asyncio.Event()

    async def slow(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "first ")
        await go_on.wait()
        await say(sink, "second")

    builder.script = slow
    async with member.streaming(instance.instance_id, "go") as stream:
        opening = await stream.next()
        assert opening is not None
        await stream.next()
        stream.response.close()
    (run,) = worker.worker.table.all()
    await eventually(lambda: not run.stream._is_followed)
    go_on.set()
    await eventually(lambda: len(worker.worker.table) == 0)
    _, page = await member.call("GET", f"/conversations/{opening.data['conversation_id']}/messages")
    assert page["items"][1]["content"] == "first second"


async def test_a_run_is_cancelled_when_its_client_leaves_and_wanted_that(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder, worker: RunningWorker
) -> None:
    async def endless(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "first ")
        await asyncio.Event().wait()

    builder.script = endless
    async with member.streaming(instance.instance_id, "go", on_disconnect="cancel") as stream:
        opening = await stream.next()
        assert opening is not None
        stream.response.close()
    await eventually(lambda: len(worker.worker.table) == 0)
    assert (await member.call("GET", f"/runs/{opening.data['run_id']}"))[1]["status"] == "cancelled"


async def test_a_silent_stream_is_kept_alive_by_comments(
    member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()

    async def silent(request: RunRequest, sink: EventSink) -> None:
        await go_on.wait()

    builder.script = silent
    async with member.streaming(instance.instance_id, "go") as stream:
        await stream.next()
        assert await stream.response.content.readany() == b": keep-alive\n\n"
        go_on.set()
        assert [e.name async for e in stream] == ["metadata"]
