"""What a worker and a plugin host say to each other: JSON in frames of four bytes length, one message each.

JSON and no pickle: what comes out of a host is a tenant's word, and may be anything at all. JSON and no msgpack: what
was decoded can be shown to a client without another look at its types.
"""

import struct
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

MAX_FRAME_BYTES = 4 * 1024 * 1024
_LENGTH = struct.Struct(">I")

T = TypeVar("T")


class PluginTool(msgspec.Struct, frozen=True):
    """One tool. `parameters` is the JSON schema of its arguments; `streams` tools show their result to the client."""

    pid: str
    name: str
    description: str
    parameters: dict[str, Any]
    streams: bool = False
    needs_validation: bool = False


class ToolOutcome(msgspec.Struct, frozen=True):
    """What a call came to. `content` is the text the model gets (also for an error, then without internals).

    `shown` is what a client may see: the result after the tool's stream filter and the size cap, JSON-able.
    """

    content: str
    shown: Any
    is_error: bool = False


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Import the plugin and make its agent. `settings` are in the clear: they travel here and nowhere else."""

    pid: str
    directory: str
    folder: str
    digest: str
    settings: dict[str, Any]


class Call(msgspec.Struct, frozen=True, tag="call"):
    id: int
    tool: str
    arguments: dict[str, Any]


class LoadAnchor(msgspec.Struct, frozen=True, tag="load_anchor"):
    """`with_rules`: build the scope rules of what was loaded as well, unless there is no such resource."""

    id: int
    resource_id: str
    with_rules: bool = False


class BuildScopeRules(msgspec.Struct, frozen=True, tag="build_scope_rules"):
    id: int
    context: dict[str, Any]


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for this call any more. It is heard at once and answered when its work has really ended."""

    id: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Clean up and end."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first word, said before any of the plugin's code has run. `missing` are walls that could not be raised."""

    process_id: int
    missing: tuple[str, ...]


class Started(msgspec.Struct, frozen=True, tag="started"):
    tools: tuple[PluginTool, ...]
    system_prompt: str
    is_scoped: bool


class NotStarted(msgspec.Struct, frozen=True, tag="not_started"):
    """`error` is the type of what was raised, "" when there is no plugin class."""

    error: str
    place: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    id: int
    outcome: ToolOutcome


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """A cancellation has arrived: the host's loop turns, whatever its threads do."""

    id: int


class Told(msgspec.Struct, frozen=True, tag="told"):
    """Something for the log: type and place of an author's exception, never its text."""

    event: str
    fields: dict[str, str]


Request = Start | Call | LoadAnchor | BuildScopeRules | Cancel | Stop
Reply = Hello | Started | NotStarted | Answer | Heard | Told

requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class BadFrame(ValueError):
    """What arrived is not what this protocol sends."""


def framed(message: Request | Reply) -> bytes:
    """Raises BadFrame for what is too large or has no JSON form."""
    try:
        body = msgspec.json.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise BadFrame(f"not to be written as JSON ({type(error).__name__})") from None
    if len(body) > MAX_FRAME_BYTES:
        raise BadFrame(f"more than {MAX_FRAME_BYTES // 1024**2} MiB")
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Puts messages together from bytes as they come."""

    def __init__(self, decoder: "msgspec.json.Decoder[T]") -> None:
        self._decoder: msgspec.json.Decoder[Any] = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are whole by now. Raises BadFrame."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise BadFrame("a frame too large")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            try:
                message = self._decoder.decode(body)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                raise BadFrame("a message that is none") from None
            yield message
