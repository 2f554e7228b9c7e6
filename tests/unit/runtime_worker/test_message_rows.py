from datetime import UTC, datetime

from runtime_worker.conversations.base import Message
from runtime_worker.conversations.mapping import message_row
from runtime_worker.models.base import ModelMessage, ModelToolCall
from shared.ids import new_id


def test_a_call_is_kept_without_the_reasoning_its_provider_sealed() -> None:
    exchange = (
        ModelMessage("assistant", "", (ModelToolCall("c1", "add", '{"a":1}', "gemini:c2VhbGVk"),)),
        ModelMessage("tool", "2", tool_call_id="c1"),
    )
    message = Message(
        message_id=new_id(),
        conversation_id=new_id(),
        run_id=new_id(),
        role="assistant",
        content="2",
        created_at=datetime.now(UTC),
        tool_messages=exchange,
    )

    row = message_row(message)

    assert list(row["tool_messages"][0]["tool_calls"]) == [{"id": "c1", "name": "add", "arguments": '{"a":1}'}]
    assert "c2VhbGVk" not in str(row)
