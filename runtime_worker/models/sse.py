"""Server-sent events out of bytes, as they come from a socket. Decoding text is left to the JSON decoder: a character
split over two reads is whole again before anything looks at it."""

from shared.errors import ModelProtocolError

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Far above any delta (a whole tool call of a provider that does not split them), far below what would hurt."""


class EventStream:
    """Turns chunks into the `data` of finished events. Only `data` means anything here: the rest is skipped."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes. Raises ModelProtocolError when one grows past the limit."""
        *lines, self._rest = (self._rest + chunk if self._rest else chunk).split(b"\n")
        events: list[bytes] = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line:
                self._end(events)
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        if len(self._rest) > MAX_EVENT_BYTES or (self._data and sum(map(len, self._data)) > MAX_EVENT_BYTES):
            raise ModelProtocolError("the model sent an event that is too large")
        return events

    def finish(self) -> list[bytes]:
        """What a stream that ended without its last empty line still held: some servers end on `data: [DONE]`."""
        events = self.feed(b"\n") if self._rest else []
        self._end(events)
        return events

    def _end(self, events: list[bytes]) -> None:
        if self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data.clear()
