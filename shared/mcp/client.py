"""A session with an MCP server, and its tools. Everything a server may do wrong becomes MCPServerUnavailable."""

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import httpx2
import msgspec
from mcp.client.client import Client
from mcp.client.session import IncomingMessage, MessageHandlerFnT
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import Implementation, Tool, ToolListChangedNotification
from pydantic import ValidationError

from shared.errors import MCPServerUnavailable
from shared.mcp.http import AddressRefused, AnswerRefused, GuardedTransport, http_client
from shared.mcp.rules import MAX_DESCRIPTION_CHARS, MAX_SCHEMA_BYTES, MAX_TOOL_NAME_CHARS, MAX_TOOLS
from shared.snapshots import MCPServer, ToolDescription

MAX_LIST_PAGES = 20

REQUEST_SECONDS = 30.0
"""For what is asked of a server besides tool calls, which bring their own deadline."""


@asynccontextmanager
async def connected(
    server: MCPServer,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    on_tools_changed: Callable[[], None] = lambda: None,
    on_session_gone: Callable[[], None] = lambda: None,
) -> AsyncIterator[Client]:
    """A session for as long as the block runs; the block is cancelled when the connection breaks.

    After `on_session_gone` the server answers nothing in this session any more.
    The block must stay in the task that entered it. Raises MCPServerUnavailable, also for what breaks later.
    """
    transport: GuardedTransport | None = None

    async def on_message(message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_tools_changed()

    try:
        if server.transport == "streamable_http":
            transport = GuardedTransport(allow_private=allow_private, on_session_gone=on_session_gone)
            async with (
                http_client(transport, headers) as http,
                _client(streamable_http_client(server.url, http_client=http), on_message) as client,
            ):
                yield client
        else:
            parameters = StdioServerParameters(command=server.command, args=list(server.args))
            with _nowhere() as errors:
                async with _client(stdio_client(parameters, errlog=errors), on_message) as client:
                    yield client
    except Exception as error:
        # An edge: the library lets out whatever a transport, a parser or a peer made of the connection, in groups.
        raise _unavailable(error, transport.status if transport else None) from None


async def listed_tools(client: Client, allow_list: Collection[str] | None) -> tuple[ToolDescription, ...]:
    """The tools of the server that are allowed, in its order. A list over the limits is refused as a whole.

    Raises MCPServerUnavailable and what the library raises for a bad answer.
    """
    found: dict[str, ToolDescription] = {}
    cursor: str | None = None
    for _ in range(MAX_LIST_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            if allow_list is None or tool.name in allow_list:
                found[tool.name] = _described(tool)
        if len(found) > MAX_TOOLS:
            raise MCPServerUnavailable(f"the server has more than {MAX_TOOLS} tools: choose some in tool_allow_list")
        cursor = page.next_cursor
        if cursor is None:
            return tuple(found.values())
    raise MCPServerUnavailable("the list of the server's tools does not end")


def _nowhere() -> TextIO:
    """Where a server's own log lines go: they may hold what the tools were asked."""
    return Path(os.devnull).open("w")


def _client(transport: Any, on_message: MessageHandlerFnT) -> Client:
    return Client(
        transport,
        cache=None,
        read_timeout_seconds=REQUEST_SECONDS,
        message_handler=on_message,
        client_info=Implementation(name="cadence", version=version("cadence")),
    )


def _described(tool: Tool) -> ToolDescription:
    if len(tool.name) > MAX_TOOL_NAME_CHARS:
        raise MCPServerUnavailable(f"a tool name has more than {MAX_TOOL_NAME_CHARS} characters: {tool.name[:50]!r}…")
    if len(msgspec.json.encode(tool.input_schema)) > MAX_SCHEMA_BYTES:
        raise MCPServerUnavailable(f"the schema of {tool.name!r} has more than {MAX_SCHEMA_BYTES} bytes")
    return ToolDescription(tool.name, (tool.description or tool.title or "")[:MAX_DESCRIPTION_CHARS], tool.input_schema)


def _unavailable(error: Exception, status: int | None) -> MCPServerUnavailable:
    """The reason that helps an admin most; nothing of what the server wrote is in it."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, MCPServerUnavailable):
            return leaf
    for leaf in leaves:
        match leaf:
            case AddressRefused() | AnswerRefused():
                return MCPServerUnavailable(str(leaf))
            case httpx2.ConnectError() | httpx2.ConnectTimeout():
                return MCPServerUnavailable("no connection to the server could be made")
            case httpx2.TransportError():
                return MCPServerUnavailable(f"the connection to the server broke ({type(leaf).__name__})")
            case OSError() if not isinstance(leaf, TimeoutError):
                return MCPServerUnavailable(f"the server cannot be started ({type(leaf).__name__})")
    if status in (401, 403):
        return MCPServerUnavailable(f"the server answered {status}: check its headers")
    if status is not None and status >= 300:
        return MCPServerUnavailable(f"the server answered {status}: is this the URL of an MCP server?")
    if any(isinstance(leaf, TimeoutError) for leaf in leaves):
        return MCPServerUnavailable("the server did not answer in time")
    if any(isinstance(leaf, MCPError | ValidationError) for leaf in leaves):
        return MCPServerUnavailable("the server does not answer as the protocol wants it")
    return MCPServerUnavailable(f"the session with the server failed ({type(leaves[0]).__name__})")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
