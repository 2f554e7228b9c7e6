from typing import Annotated

import msgspec
from msgspec import Meta

from control_plane.plugins.schemas import Tag
from shared.mcp.rules import MAX_HEADER_CHARS, MAX_HEADERS, MAX_TOOL_NAME_CHARS, MAX_TOOLS
from shared.snapshots import MCPTransport

ToolName = Annotated[str, Meta(min_length=1, max_length=MAX_TOOL_NAME_CHARS)]
HeaderValue = Annotated[str, Meta(max_length=MAX_HEADER_CHARS)]


class MCPServerBody(msgspec.Struct, forbid_unknown_fields=True):
    """An MCP server to be added as a plugin: `url` for `streamable_http`, `command` and `args` for `stdio`.

    The values of `headers` are never shown again. Without `tool_allow_list` the plugin has all tools of the server,
    later ones included. The `url` is not kept secret: a key belongs into a header.
    """

    pid: Annotated[str, Meta(min_length=1, max_length=200)]
    version: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
    description: Annotated[str, Meta(min_length=1, max_length=4000, pattern=r"\S")]
    transport: MCPTransport
    url: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    command: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    args: Annotated[list[Annotated[str, Meta(max_length=4000)]], Meta(max_length=50)] = []
    headers: Annotated[dict[str, HeaderValue], Meta(max_length=MAX_HEADERS)] = {}
    tool_allow_list: Annotated[list[ToolName], Meta(min_length=1, max_length=MAX_TOOLS)] | None = None
    tag: Tag | None = None
