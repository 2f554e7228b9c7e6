"""What one client was told of one turn, event by event, and what was wrong with it as it came."""

import re
from typing import Any, Literal

import msgspec

from tests.chaos.model import Question

_ID = re.compile(rb"^id: ([0-9a-f-]{36}):(\d+)$", re.MULTILINE)
_NAME = re.compile(rb"^event: (\w+)$", re.MULTILINE)
_DATA = re.compile(rb"^data: (.*)$", re.MULTILINE)

Kind = Literal["stream", "stream, dropped", "stream, cancelled", "chat"]


class Told(msgspec.Struct, frozen=True):
    """One event. `raw` is all of its bytes."""

    seq: int
    name: str
    data: dict[str, Any]
    raw: bytes

    @property
    def is_last(self) -> bool:
        return self.name == "error" or self.data.get("final") is True


class Transcript:
    """`wrong` are promises that were broken before the client's eyes."""

    def __init__(self, question: Question, kind: Kind, org_path: str) -> None:
        self.question = question
        self.kind = kind
        self.org_path = org_path
        self.run_id = ""
        self.conversation_id = ""
        self.events: list[Told] = []
        self.chat_text: str | None = None
        self.chat_error = ""
        self.refusal = ""
        self.wrong: list[str] = []
        self.resumes = 0
        self.cancelled_at: float | None = None
        self.cancel_seconds: float | None = None

    @property
    def is_accepted(self) -> bool:
        return bool(self.run_id)

    @property
    def last(self) -> Told | None:
        return self.events[-1] if self.events and self.events[-1].is_last else None

    @property
    def last_seq(self) -> int:
        return self.events[-1].seq if self.events else 0

    @property
    def text(self) -> str:
        if self.chat_text is not None:
            return self.chat_text
        return "".join(event.data["content"] for event in self.events if event.name == "message")

    @property
    def outcome(self) -> str:
        """`completed`, `cancelled`, `failed`, or empty while the client knows of none."""
        if self.chat_text is not None:
            return "completed"
        if (last := self.last) is None:
            return ""
        return "failed" if last.name == "error" else str(last.data["status"])

    def add(self, block: bytes) -> Told | None:
        """Note the next event; None for one that has no id, which is the gateway's own."""
        name, data, found = _NAME.search(block), _DATA.search(block), _ID.search(block)
        if name is None or data is None:
            self.wrong.append(f"half an event: {block[:80]!r}")
            return None
        if found is None:
            return None
        run_id, seq = found[1].decode(), int(found[2])
        event = Told(seq, name[1].decode(), msgspec.json.decode(data[1]), block)
        if not self.run_id:
            self.run_id = run_id
            self.conversation_id = event.data.get("conversation_id", "")
        if run_id != self.run_id:
            self.wrong.append(f"an event of the foreign run {run_id}")
        elif self.last is not None:
            self.wrong.append(f"event {seq} after the last one")
        elif seq != self.last_seq + 1:
            self.wrong.append(f"event {seq} after event {self.last_seq}")
        self.events.append(event)
        return event
