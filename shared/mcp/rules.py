"""What may be configured of an MCP server, and how much of it is taken. Knows nothing of the wire."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from shared.snapshots import MCPServer

HEADERS, ALLOWED_TOOLS = "headers", "allowed_tools"
"""The settings that every MCP plugin has (headers: only over HTTP)."""

MAX_TOOLS = 100
MAX_TOOL_NAME_CHARS = 128
MAX_DESCRIPTION_CHARS = 4000
MAX_SCHEMA_BYTES = 32 * 1024
MAX_HEADERS = 20
MAX_HEADER_CHARS = 8 * 1024

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_OURS = frozenset(
    (
        *("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("connection", "last-event-id", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authorization", "proxy-connection"),
    )
)
"""Headers that the transport sets itself; a second opinion on them is how requests are smuggled."""


def settings_schema(server: MCPServer) -> tuple[dict[str, Any], ...]:
    """The settings of a plugin that is this server, as `plugin_settings` of a code plugin would declare them."""
    allowed = {
        "key": ALLOWED_TOOLS,
        "name": "Allowed tools",
        "type": "list",
        "description": "Names of the tools that may be used; without it, all tools of the plugin.",
        "required": False,
        "sensitive": False,
    }
    if server.transport == "stdio":
        return (allowed,)
    headers = {
        "key": HEADERS,
        "name": "Headers",
        "type": "dict",
        "description": "HTTP headers for the server, such as Authorization. They replace those of the catalogue.",
        "required": False,
        "sensitive": True,
    }
    return allowed, headers


def setting_problem(key: str, value: Any) -> str | None:
    """What is wrong with the value of one of these settings, whose type is already checked."""
    if key == ALLOWED_TOOLS and not all(isinstance(name, str) for name in value):
        return "must be a list of tool names"
    if key == HEADERS:
        return next(header_problems(value), None)
    return None


def header_problems(headers: Mapping[str, Any]) -> Iterator[str]:
    """Never repeats a value: it may be a secret."""
    if len(headers) > MAX_HEADERS:
        yield f"at most {MAX_HEADERS} headers are allowed"
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            yield f"{name[:100]!r} is no header name"
        elif name.lower() in _OURS or name.lower().startswith("mcp-"):
            yield f"the header {name} is set by the transport"
        elif not isinstance(value, str) or len(value) > MAX_HEADER_CHARS or not _HEADER_VALUE.fullmatch(value):
            yield f"the value of {name} must be text of printable ASCII, at most {MAX_HEADER_CHARS} characters"
