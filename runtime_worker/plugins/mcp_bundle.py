"""An MCP server as a bundle: the tools of its connection that an instance allows."""

from collections.abc import Collection
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, REQUEST_TIMEOUT
from pydantic import ValidationError

from runtime_worker.plugins.base import Anchor, PluginTool, ToolOutcome
from runtime_worker.plugins.mcp_connection import MCPConnection
from runtime_worker.plugins.mcp_results import outcome_of
from runtime_worker.pool.footprint import footprint_bytes
from shared.errors import MCPServerUnavailable, ToolFailed
from shared.logging import get_logger
from shared.plugin_host.results import as_text
from shared.snapshots import PluginSnapshot, ToolDescription

log = get_logger(__name__)


class MCPBundle:
    """See `base.PluginBundle`. Its `tools` change when the server's do; what they are now is always one same tuple."""

    system_prompt = ""
    is_scoped = False

    def __init__(self, plugin: PluginSnapshot, connection: MCPConnection, allowed: Collection[str] | None) -> None:
        self.pid = plugin.pid
        self.version = plugin.version
        self.description = plugin.manifest.description
        self._connection = connection
        self._allowed = None if allowed is None else frozenset(allowed)
        self._listed: tuple[ToolDescription, ...] | None = None
        self._tools: tuple[PluginTool, ...] = ()
        self._tools_bytes = 0

    @property
    def tools(self) -> tuple[PluginTool, ...]:
        listed = self._connection.tools
        if listed is not self._listed:
            self._tools = tuple(
                PluginTool(self.pid, tool.name, tool.description, tool.schema)
                for tool in listed
                if self._allowed is None or tool.name in self._allowed
            )
            self._listed = listed
            self._tools_bytes = footprint_bytes(self._tools)
        return self._tools

    @property
    def resident_bytes(self) -> int:
        return self._tools_bytes

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        if all(offered.name != tool for offered in self.tools):
            return _failed(f"There is no tool {tool!r}.")
        try:
            return outcome_of(await self._connection.call(tool, arguments, timeout_seconds=timeout_seconds))
        except TimeoutError:
            return _timed_out(tool, timeout_seconds)
        except MCPServerUnavailable as error:
            return _failed(f"The tool {tool} cannot be used now: {error.detail}.")
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                return _timed_out(tool, timeout_seconds)
            log.warning("mcp_tool_refused", pid=self.pid, tool=tool, code=error.code)
            # What is wrong with arguments is written for the caller, who can do better; other errors are not.
            reason = f": {error.error.message}" if error.code == INVALID_PARAMS else ""
            return _failed(as_text(f"The tool {tool} failed{reason}."))
        except ValidationError:
            log.warning("mcp_result_unreadable", pid=self.pid, tool=tool)
            return _failed(f"The answer of the tool {tool} cannot be read.")

    async def load_anchor(self, resource_id: str, *, with_rules: bool, timeout_seconds: float) -> Anchor:
        raise ToolFailed(f"{self.pid} is an MCP server, which has no anchors")

    async def build_scope_rules(self, context: dict[str, Any], *, timeout_seconds: float) -> str:
        raise ToolFailed(f"{self.pid} is an MCP server, which has no scope rules")

    async def close(self) -> None:
        await self._connection.close()


def _timed_out(tool: str, timeout_seconds: float) -> ToolOutcome:
    return _failed(f"The tool {tool} did not answer within {timeout_seconds:g} seconds.")


def _failed(message: str) -> ToolOutcome:
    return ToolOutcome(message, message, is_error=True)
