"""Run events as bytes of `text/event-stream`. Everything about an event that is known early is encoded early."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

HEARTBEAT = b": keep-alive\n\n"
"""A comment: clients ignore it, proxies see that the connection lives."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class EventEncoder:
    """Encodes the events of one run. Ids are `<run_id>:<seq>`."""

    def __init__(self, run_id: UUID) -> None:
        self._id = f"id: {run_id}:".encode()
        self._messages: dict[str, bytes] = {}

    def event(self, seq: int, name: str, data: Mapping[str, Any]) -> bytes:
        """One event. JSON never holds a raw line break, so the data is always one line."""
        return b"%b%d\nevent: %b\ndata: %b\n\n" % (self._id, seq, name.encode(), _encode(data))

    def message(self, seq: int, content: str, node: str) -> bytes:
        """A `message` event. The hot one: only the number and the text are encoded per call."""
        template = self._messages.get(node)
        if template is None:
            template = self._messages[node] = self._message_template(node)
        return template % (seq, _encode(content))

    def _message_template(self, node: str) -> bytes:
        tail = _encode(node).replace(b"%", b"%%")
        return self._id + b'%d\nevent: message\ndata: {"content":%b,"role":"assistant","node":' + tail + b"}\n\n"
