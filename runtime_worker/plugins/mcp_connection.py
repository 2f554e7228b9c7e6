"""One connection to an MCP server: one task owns it, keeps its list of tools and connects again when it breaks."""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import anyio
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CONNECTION_CLOSED,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from shared.errors import MCPServerUnavailable
from shared.logging import get_logger
from shared.mcp.client import connected, listed_tools
from shared.snapshots import PluginSnapshot, ToolDescription

log = get_logger(__name__)

START_SECONDS = 3.0
"""How long the build of an instance waits for a server: few are built at once, and others wait behind them."""
CONNECT_SECONDS = 10.0
MAX_RETRY_SECONDS = 60.0
MIN_RETRY_SECONDS = 0.5
"""Between two attempts even when calls ask for one: a server that is down is not to be hammered by every turn."""
STABLE_SECONDS = 10.0
"""A session that ended sooner counts as a failed attempt: a server that ends each at once gets its pauses too."""
GOODBYE_SECONDS = 10.0
CALLS_AT_ONCE = 16
"""Below the connections of the HTTP client, which the streams of changes need too."""


class MCPConnection:
    """`tools` are what the server had when it was last asked, before that what it had when the plugin was saved.

    Holds the headers in the clear, for as long as it lives. `start` it once and `close` it.
    """

    def __init__(
        self, plugin: PluginSnapshot, headers: Mapping[str, str], *, org_id: UUID, allow_private: bool
    ) -> None:
        if plugin.mcp is None:
            raise ValueError(f"{plugin.pid}@{plugin.version} is no MCP server")
        self._server = plugin.mcp
        self._name = f"{plugin.pid}@{plugin.version}"
        self._log = log.bind(org_id=str(org_id), pid=plugin.pid, version=plugin.version)
        self._headers = dict(headers)
        self._allow_private = allow_private
        self._client: Client | None = None
        self._scope = anyio.CancelScope()
        self._is_session_gone = False
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._attempt = asyncio.get_running_loop().create_future()
        self._failure = MCPServerUnavailable()
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)
        self._owner: asyncio.Task[None] | None = None
        self.tools: tuple[ToolDescription, ...] = plugin.manifest.tools

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    async def start(self) -> None:
        """Returns once the first attempt to connect is over, whatever came of it, or takes too long to wait for."""
        self._owner = asyncio.create_task(self._own(), name=f"mcp-{self._name}")
        await asyncio.wait({self._attempt}, timeout=START_SECONDS)

    async def close(self) -> None:
        """Says goodbye to the server, which may not make that take long."""
        self._headers.clear()
        while self._owner is not None and not self._owner.done():
            self._owner.cancel()
            await asyncio.wait({self._owner}, timeout=GOODBYE_SECONDS)

    async def call(self, tool: str, arguments: Mapping[str, Any], *, timeout_seconds: float) -> CallToolResult:
        """Raises MCPServerUnavailable, MCPError, TimeoutError, and ValidationError for what is no result of a tool."""
        request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=dict(arguments)))
        async with asyncio.timeout(timeout_seconds), self._calls:
            try:
                return await self._send(request, timeout_seconds)
            except _SessionGone:
                # The server forgot the session, as after its restart, and did nothing: what it was asked may be sent
                # again. Everything else may have been done.
                return await self._send(request, timeout_seconds)

    async def _send(self, request: CallToolRequest, timeout_seconds: float) -> CallToolResult:
        client = await self._connected_client()
        try:
            # Not `client.call_tool`: it checks results against the tool's own schema, whose patterns a server could
            # write so that one check holds the loop for minutes.
            return await client.session.send_request(
                request, CallToolResult, request_read_timeout_seconds=timeout_seconds
            )
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self._lose(client)
                raise MCPServerUnavailable("the connection to the server broke") from None
            if self._is_session_gone:
                self._lose(client)
                raise _SessionGone from None
            raise

    async def _connected_client(self) -> Client:
        """The client, or that of the next attempt, which a call does not wait longer for than it must."""
        if self._client is None:
            self._wanted.set()
            await asyncio.shield(self._attempt)
        if self._client is None:
            raise self._failure
        return self._client

    async def _own(self) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._live()
                failures = 0 if time.monotonic() - started >= STABLE_SECONDS else failures + 1
            except MCPServerUnavailable as error:
                failures += 1
                self._fail(error)
                self._log.warning("mcp_server_unavailable", reason=error.detail, attempt=failures)
            except Exception:
                # The edge of the task: nobody awaits it who could act, and without it every call only times out.
                failures += 1
                self._fail(MCPServerUnavailable())
                self._log.exception("mcp_connection_crashed")
            await asyncio.sleep(MIN_RETRY_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(2.0**failures - 1, MAX_RETRY_SECONDS)):
                    await self._wanted.wait()

    async def _live(self) -> None:
        """One session, from connecting until it is lost. Raises MCPServerUnavailable when there was none."""
        was_connected = self._is_session_gone = False
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + CONNECT_SECONDS) as self._scope:
                async with connected(
                    self._server,
                    self._headers,
                    allow_private=self._allow_private,
                    on_tools_changed=self._changed.set,
                    on_session_gone=self._session_is_gone,
                ) as client:
                    self.tools = await listed_tools(client, self._server.tool_allow_list)
                    self._scope.deadline = math.inf
                    was_connected = True
                    self._client = client
                    self._attempt.set_result(None)
                    await self._follow(client)
        except MCPServerUnavailable as error:
            if not was_connected:
                raise
            self._log.info("mcp_connection_lost", reason=error.detail)
        finally:
            self._forget()
        if not was_connected:
            raise MCPServerUnavailable(f"the server did not answer within {CONNECT_SECONDS:g} seconds")

    async def _follow(self, client: Client) -> None:
        """Keep the list of tools as the server says it changes, until the session ends."""
        offered = client.server_capabilities.tools
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
            if offered is None or not offered.list_changed:
                await anyio.sleep_forever()
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    # Nobody was told of what changed between the listing and the subscription.
                    await self._refresh(client)
                    async for _ in changes:
                        await self._refresh(client)
            except MCPError:
                # It promised to tell and then refused to: its tools can be called all the same.
                self._log.info("mcp_changes_not_told")
                await anyio.sleep_forever()
            return
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._refresh(client)

    async def _refresh(self, client: Client) -> None:
        try:
            tools = await listed_tools(client, self._server.tool_allow_list)
        except (MCPServerUnavailable, MCPError, ValidationError) as error:
            # The list that was good goes on: a server is not to take its tools away by answering nonsense.
            self._log.warning("mcp_tools_not_refreshed", error=type(error).__name__)
            return
        if tools != self.tools:
            self._log.info("mcp_tools_changed", count=len(tools))
            self.tools = tools

    def _session_is_gone(self) -> None:
        self._is_session_gone = True

    def _lose(self, client: Client) -> None:
        """A call found the session dead; the owner makes another."""
        if self._client is client:
            self._forget()
            self._scope.cancel()

    def _forget(self) -> None:
        self._client = None
        if self._attempt.done():
            self._attempt = asyncio.get_running_loop().create_future()

    def _fail(self, error: MCPServerUnavailable) -> None:
        """Tell those who wait for this attempt; who comes later waits for the next."""
        self._failure = error
        self._wanted.clear()
        attempt, self._attempt = self._attempt, asyncio.get_running_loop().create_future()
        attempt.set_result(None)


class _SessionGone(Exception):
    """The server does not know the session any more."""
