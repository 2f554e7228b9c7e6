from datetime import UTC, datetime

from runtime_worker.conversations.base import Message
from runtime_worker.models.base import ModelMessage, ModelToolCall
from runtime_worker.turn.history import window
from runtime_worker.turn.openings import title_of
from shared.ids import new_id


def message(role: str, content: str, *, tool_messages: tuple[ModelMessage, ...] = ()) -> Message:
    return Message(
        message_id=new_id(),
        conversation_id=new_id(),
        run_id=new_id(),
        role="user" if role == "user" else "assistant",
        content=content,
        created_at=datetime.now(UTC),
        tool_messages=tool_messages,
    )


CALL = ModelMessage("assistant", "", (ModelToolCall("1", "add", '{"a":1}'),))
RESULT = ModelMessage("tool", "3", tool_call_id="1")


def test_history_keeps_the_order_and_puts_tool_calls_before_their_answer() -> None:
    turns = [message("user", "add"), message("assistant", "It is 3.", tool_messages=(CALL, RESULT))]
    seen = window(turns, max_tokens=1000)
    assert seen == (ModelMessage("user", "add"), CALL, RESULT, ModelMessage("assistant", "It is 3."))


def test_the_oldest_messages_go_first_when_tokens_are_short() -> None:
    turns = [message("user", "x" * 4000), message("assistant", "short"), message("user", "newest")]
    assert [m.content for m in window(turns, max_tokens=100)] == ["short", "newest"]


def test_a_tool_result_never_stays_without_its_call() -> None:
    long = ModelMessage("tool", "y" * 4000, tool_call_id="1")
    turns = [message("assistant", "sum", tool_messages=(CALL, long)), message("user", "newest")]
    assert window(turns, max_tokens=100) == (ModelMessage("user", "newest"),)


def test_an_answer_that_said_nothing_is_left_out() -> None:
    assert window([message("user", "hi"), message("assistant", "")], max_tokens=100) == (ModelMessage("user", "hi"),)


def test_a_title_is_the_first_line_cut_to_fit_a_list() -> None:
    assert title_of("\n  Plan a trip \nwith details") == "Plan a trip"
    assert len(title_of("word " * 100)) <= 80
