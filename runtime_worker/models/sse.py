"""Server-sent events out of bytes, as they come from a socket. Decoding text is left to the JSON decoder: a character
split over two reads is whole again before anything looks at it."""

from shared.errors import ModelProtocolError

MAX_EVENT_BYTES = 1024 * 1024
"""Far above any delta (a whole tool call of a provider that does not split them), far below what would hurt."""
PIECE_BYTES = 64
"""What a piece that is held costs besides its bytes, so that a million empty ones count as well."""


class EventStream:
    """Turns chunks into the `data` of finished events. Only `data` means anything here: the rest is skipped."""

    __slots__ = ("_data", "_data_bytes", "_rest", "_rest_bytes")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes. Raises ModelProtocolError when one grows past the limit."""
        # Mostly a read is whole events of a line each, one for a token or several when tokens come faster than they are
        # read; taking that apart by lines costs three times as much.
        if not self._rest and not self._data and chunk[:6] == b"data: " and chunk[-2:] == b"\n\n":
            data = chunk[6:-2]
            if b"\r" not in data:
                if b"\n" not in data:
                    return [data]
                events = data.split(b"\n\ndata: ")
                if data.count(b"\n") == 2 * (len(events) - 1):
                    return events
        self._rest.append(chunk)
        self._rest_bytes += len(chunk) + PIECE_BYTES
        events = []
        # Put together only when its line ends: an endless line must not cost more with every piece of it.
        lines = self._lines() if b"\n" in chunk else []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line:
                self._end(events)
            elif line.startswith(b"data:"):
                data = line[6:] if line.startswith(b"data: ") else line[5:]
                self._data.append(data)
                self._data_bytes += len(data) + PIECE_BYTES
        if self._rest_bytes + self._data_bytes > MAX_EVENT_BYTES:
            raise ModelProtocolError("the model sent an event that is too large")
        return events

    def finish(self) -> list[bytes]:
        """What a stream that ended without its last empty line still held: some servers end on `data: [DONE]`."""
        events = self.feed(b"\n") if self._rest else []
        self._end(events)
        return events

    def _lines(self) -> list[bytes]:
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest, self._rest_bytes = ([rest], len(rest)) if rest else ([], 0)
        return lines

    def _end(self, events: list[bytes]) -> None:
        if self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data.clear()
            self._data_bytes = 0
