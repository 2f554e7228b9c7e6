"""What was told of a run so far, read back from its events."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from runtime_worker.stream.run_log import events_key

_EVENT = re.compile(rb"id: [0-9a-f-]{36}:(\d+)\nevent: ([a-z_]+)\ndata: ([^\n]*)\n\n")
_PAGE = 500


class ToldEvent(msgspec.Struct, frozen=True):
    """One event as a client would get it. `raw` is all of its bytes, `data` its JSON."""

    seq: int
    name: str
    data: bytes
    raw: bytes


class Entry(msgspec.Struct, frozen=True):
    """One entry of a run's stream in Redis: some events, and whether they are the last ones. One without an id is not
    there yet."""

    entry_id: str
    events: tuple[ToldEvent, ...]
    is_last: bool


class Story(msgspec.Struct, frozen=True):
    """`text` is the visible answer so far, `last_node` the one that wrote last, `open_agents` and `open_tools` what
    began and did not end, oldest first. `end` is the run's last event, if that was told.

    `has_acted` says whether a client saw anything of an answer or a tool was called: such a run cannot begin anew.
    """

    last_seq: int = 0
    text: str = ""
    open_agents: tuple[tuple[str, str], ...] = ()
    open_tools: tuple[tuple[str, str], ...] = ()
    has_acted: bool = False
    end: ToldEvent | None = None
    last_node: str = ""

    @property
    def is_over(self) -> bool:
        return self.end is not None


class _Said(msgspec.Struct):
    content: str = ""
    agent: str = ""
    node: str = ""
    tool: str = ""
    call_id: str = ""


def events_in(raw: bytes) -> tuple[ToldEvent, ...]:
    return tuple(ToldEvent(int(m[1]), m[2].decode(), m[3], m[0]) for m in _EVENT.finditer(raw))


def entry_of(row: tuple[bytes, dict[bytes, bytes]]) -> Entry:
    entry_id, fields = row
    return Entry(entry_id.decode(), events_in(fields.get(b"e", b"")), b"end" in fields)


async def read_story(redis: "Redis", run_id: UUID) -> Story:
    """Everything that Redis has of a run, put together. Raises RedisError."""
    return told(await read_entries(redis, run_id))


async def read_entries(redis: "Redis", run_id: UUID) -> list[Entry]:
    """Everything that Redis has of a run. Raises RedisError."""
    entries: list[Entry] = []
    start = "-"
    while True:
        rows = cast("Sequence[Any]", await redis.xrange(events_key(run_id), min=start, count=_PAGE))
        entries += [entry_of(row) for row in rows]
        if len(rows) < _PAGE:
            return entries
        start = f"({entries[-1].entry_id}"


def told(entries: Sequence[Entry]) -> Story:
    text: list[str] = []
    agents: list[tuple[str, str]] = []
    tools: dict[str, str] = {}
    last_seq, has_acted, last_node = 0, False, ""
    end: ToldEvent | None = None
    for event, is_last in _in_order(entries):
        if event.seq != last_seq + 1:
            # Redis has lost some. What comes behind them is of no use to anybody who has not seen them.
            break
        last_seq = event.seq
        end = event if is_last else None
        said = msgspec.json.decode(event.data, type=_Said)
        match event.name:
            case "message":
                text.append(said.content)
                last_node = said.node
            case "agent_start":
                agents.append((said.agent, said.node))
            case "agent_end" if (said.agent, said.node) in agents:
                agents.remove((said.agent, said.node))
            case "tool_start":
                tools[said.call_id] = said.tool
            case "tool_end":
                tools.pop(said.call_id, None)
        has_acted = has_acted or event.name in ("message", "tool_start", "suggestion")
    return Story(
        last_seq=last_seq,
        text="".join(text),
        open_agents=tuple(agents),
        open_tools=tuple(tools.items()),
        has_acted=has_acted,
        end=end,
        last_node=last_node,
    )


def _in_order(entries: Sequence[Entry]) -> Iterator[tuple[ToldEvent, bool]]:
    for entry in entries:
        for event in entry.events:
            yield event, entry.is_last and event is entry.events[-1]
