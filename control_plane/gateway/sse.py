"""What the gateway must know of server-sent events: never let half of one through, never leave a client hanging."""

import re

import msgspec

from shared.errors import WorkerLost
from shared.openai_errors import error_in_stream

MEDIA_TYPE = "text/event-stream"
_END_OF_EVENT = b"\n\n"
_LAST_EVENT = re.compile(rb'\nevent: (?:error\n|metadata\ndata: .*"final":true)')
MAX_HELD_BYTES = 1024 * 1024
"""An event longer than this is passed on in parts."""


class _ErrorEvent(msgspec.Struct):
    code: str
    message: str
    retryable: bool


class WholeEvents:
    """Passes bytes through, holding back only the beginning of an event whose end has not arrived yet.

    A worker writes whole events, so this holds something only where the network cut one in two, which a client could
    not have acted on anyway. When the worker dies right there, the half is dropped instead of being read as an event.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        data = self._held + chunk if self._held else chunk
        if data.endswith(_END_OF_EVENT):
            self._held = b""
            return data
        end = data.rfind(_END_OF_EVENT) + len(_END_OF_EVENT)
        if end < len(_END_OF_EVENT):
            end = len(data) if len(data) > MAX_HELD_BYTES else 0
        self._held = data[end:]
        return data[:end]

    def rest(self) -> bytes:
        """What is left when the stream ended by itself."""
        return self._held


def has_said_all(events: bytes) -> bool:
    """Whether a stream may end behind these events: the last one is a run's last, or they are no run's at all."""
    return not _last_of(events).startswith(b"id: ") or is_end_of_run(events)


def is_end_of_run(events: bytes) -> bool:
    """Whether the last of these events is a run's last."""
    return _LAST_EVENT.search(_last_of(events)) is not None


def _last_of(events: bytes) -> bytes:
    return next((event for event in reversed(events.split(_END_OF_EVENT)) if event and not event.startswith(b":")), b"")


def worker_lost_event(path: str) -> bytes:
    """The last event of a stream whose worker is gone, in the protocol of `path`. The run's own ids stay valid for a
    resume."""
    lost = WorkerLost()
    if speaks_openai(path):
        return error_in_stream(lost)
    data = msgspec.json.encode(_ErrorEvent(lost.code, lost.detail, lost.retryable))
    return b"event: error\ndata: " + data + _END_OF_EVENT


def speaks_openai(path: str) -> bool:
    return path.endswith("/v1/chat/completions")
