import asyncio
import json
from uuid import UUID

from runtime_worker.stream.run_stream import RunStream

RUN_ID = UUID("01920000-0000-7000-8000-000000000001")


def events_of(chunk: bytes) -> list[tuple[str, str, dict[str, object]]]:
    """(id, event, data) of every event in a chunk; fails on anything that is not one."""
    found = []
    for block in chunk.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        assert list(lines) == ["id", "event", "data"]
        found.append((lines["id"], lines["event"], json.loads(lines["data"])))
    return found


async def test_every_event_has_the_runs_id_and_the_next_number() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    stream.metadata({"run_id": RUN_ID})
    stream.message("a", "node")
    stream.end("metadata", {"final": True})
    events = events_of(stream.take())
    assert [event_id for event_id, _, _ in events] == [f"{RUN_ID}:{n}" for n in (1, 2, 3)]
    assert events[0][2] == {"run_id": str(RUN_ID)}


async def test_text_and_node_survive_whatever_they_hold() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    nasty = 'line\nbreak "quotes" \\ %s %b %% \x00 ünïcødé 🎉 \n\nevent: fake'
    stream.message(nasty, 'no%d"de')
    stream.message("second", 'no%d"de')
    events = events_of(stream.take())
    assert events[0][2] == {"content": nasty, "role": "assistant", "node": 'no%d"de'}
    assert events[1][2]["content"] == "second"
    assert stream.text == nasty + "second"


async def test_events_that_came_while_nobody_took_them_leave_in_one_chunk() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    for n in range(20):
        stream.message(str(n), "node")
    assert len(events_of(stream.take())) == 20


async def test_who_follows_is_called_once_for_all_that_comes_until_it_is_taken() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    taken: list[bytes] = []
    stream.follow(lambda: taken.append(stream.take()))
    stream.message("one", "node")
    stream.message("two", "node")
    await asyncio.sleep(0)
    stream.message("three", "node")
    await asyncio.sleep(0)
    assert [[data["content"] for _, _, data in events_of(chunk)] for chunk in taken] == [["one", "two"], ["three"]]


async def test_who_follows_late_is_told_what_is_waiting() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    stream.metadata({"run_id": RUN_ID})
    taken: list[bytes] = []
    stream.follow(lambda: taken.append(stream.take()))
    await asyncio.sleep(0)
    assert [name for _, name, _ in events_of(taken[0])] == ["metadata"]


async def test_the_last_event_ends_the_stream_and_nothing_follows_it() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    stream.end("error", {"code": "OR-0006"})
    stream.message("late", "node")
    stream.tool_start("p.t", "c", {})
    stream.end("metadata", {"final": True})
    assert [name for _, name, _ in events_of(stream.take())] == ["error"]
    assert stream.is_over
    assert stream.take() == b""
    assert stream.text == ""


async def test_what_a_stopped_run_left_open_is_closed_innermost_first() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    stream.agent_start("outer", "supervisor_node")
    stream.agent_start("inner", "control_tools")
    stream.tool_start("com.x.tool", "call-1", {"a": 1})
    stream.close_open("cancelled")
    names = [(name, data.get("agent") or data.get("error")) for _, name, data in events_of(stream.take())]
    assert names[3:] == [("tool_end", "cancelled"), ("agent_end", "inner"), ("agent_end", "outer")]


async def test_without_a_reader_only_the_text_is_kept() -> None:
    stream = RunStream(RUN_ID, is_followed=False)
    stream.message("kept", "node")
    stream.heartbeat()
    assert stream.take() == b""
    assert stream.text == "kept"
    assert stream.last_seq == 1


async def test_a_reader_that_leaves_ends_the_stream_and_the_run_goes_on() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    was_over: list[bool] = []
    stream.message("not taken", "node")
    stream.follow(lambda: was_over.append(stream.is_over))
    stream.unfollow()
    await asyncio.sleep(0)
    stream.message(" but stored", "node")
    assert was_over == [True]
    assert stream.take() == b""
    assert stream.text == "not taken but stored"


async def test_a_tool_result_that_json_cannot_say_does_not_break_the_stream() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    stream.tool_end("p.t", "c", duration_ms=1, result={"a": float("nan"), "b": {1, 2}, "c": object()})
    stream.message("after", "node")
    assert [name for _, name, _ in events_of(stream.take())] == ["tool_end", "message"]


async def test_a_heartbeat_is_a_comment_and_takes_no_number() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    stream.heartbeat()
    assert stream.take() == b": keep-alive\n\n"
    assert stream.last_seq == 0


async def test_what_comes_after_events_were_covered_waits_for_its_own_turn() -> None:
    stream = RunStream(RUN_ID, is_followed=True)
    told: list[str] = []
    stream.follow(lambda: told.append("told"))
    stream.message("one", "node")
    stream.cover()
    stream.message("two", "node")
    assert [data["content"] for _, _, data in events_of(stream.take())] == ["one"]
    assert not stream.is_over
    told.clear()
    await asyncio.sleep(0)
    assert told, "there is more"
    assert [data["content"] for _, _, data in events_of(stream.take())] == ["two"]
