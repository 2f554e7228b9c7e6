"""Asking an MCP server for its tools, once, while an admin waits."""

import asyncio
from collections.abc import Mapping
from types import ModuleType

import anyio

from shared.errors import MCPServerUnavailable
from shared.snapshots import MCPServer, ToolDescription

CONTACT_SECONDS = 10.0
CONCURRENT_CONTACTS = 4


class MCPDiscovery:
    """Contacts a bounded number of servers at a time; the others wait, and give up at the same deadline."""

    def __init__(self, *, allow_private: bool, contact_seconds: float = CONTACT_SECONDS) -> None:
        self._allow_private = allow_private
        self._contact_seconds = contact_seconds
        self._slots = asyncio.Semaphore(CONCURRENT_CONTACTS)

    async def tools(self, server: MCPServer, headers: Mapping[str, str]) -> tuple[ToolDescription, ...]:
        """What the server offers of what is allowed. Raises MCPServerUnavailable."""
        client = await asyncio.to_thread(_library)
        tools: tuple[ToolDescription, ...] | None = None
        # A scope of anyio's, because it cancels what awaits again in its clean-up, such as a goodbye nobody answers.
        with anyio.move_on_after(self._contact_seconds):
            async with self._slots, client.connected(server, headers, allow_private=self._allow_private) as session:
                tools = await client.listed_tools(session, server.tool_allow_list)
        if tools is None:
            raise MCPServerUnavailable(f"the server did not answer within {self._contact_seconds:g} seconds")
        return tools


def _library() -> ModuleType:
    """Takes half a second the first time."""
    from shared.mcp import client

    return client
