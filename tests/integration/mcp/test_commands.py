"""An MCP server that is a command of the system, over a real pipe."""

import sys
from pathlib import Path

import pytest

from shared.snapshots import MCPServer
from tests.fakes.mcp_plugins import mcp_snapshot
from tests.integration.mcp.bundles import SECONDS, Load
from tests.integration.runtime_worker.worker import eventually

SERVER = """
import os, sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("piped")

@server.tool()
def environment() -> list[str]:
    return sorted(os.environ)

@server.tool()
def leave() -> str:
    os._exit(1)

print("not for the log", file=sys.stderr)
server.run("stdio")
"""


async def test_a_command_of_the_system_is_a_server_too(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CADENCE_SECRET_KEY", "not for plugins")
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    bundle = await load(mcp_snapshot(server=MCPServer("stdio", command=sys.executable, args=(str(script),))))

    async def is_there() -> bool:
        return not (await bundle.call("environment", {}, timeout_seconds=SECONDS)).is_error

    # Starting an interpreter may take longer than a build waits for.
    await eventually(is_there)
    outcome = await bundle.call("environment", {}, timeout_seconds=SECONDS)
    assert not [name for name in outcome.shown["result"] if name.startswith("CADENCE_")]
    assert "not for the log" not in "".join(capfd.readouterr())
    assert (await bundle.call("leave", {}, timeout_seconds=SECONDS)).is_error
    await eventually(is_there)
