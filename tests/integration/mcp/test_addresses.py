"""Where an MCP server may be, and how sure it is that the right one is called."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from runtime_worker.plugins.mcp_loading import MCPLoader
from shared.errors import PluginLoadFailed
from shared.ids import new_id
from shared.mcp import http
from shared.snapshots import MCPServer
from tests.fakes.certificates import certificate_of
from tests.fakes.mcp_plugins import mcp_snapshot
from tests.fakes.mcp_server import FakeMCPServer
from tests.integration.mcp.bundles import Load, add, added


async def test_what_can_never_work_is_a_failed_load_that_says_why() -> None:
    strict = MCPLoader(allow_private=False)
    for plugin, reason in (
        (mcp_snapshot("http://127.0.0.1:1/mcp"), "the URL of its server must use https"),
        (mcp_snapshot("https://10.0.0.1/mcp"), "points to an address that is private"),
        (mcp_snapshot("https://mcp.example/mcp", headers={"Host": "x"}), "the header Host is set by the transport"),
        (mcp_snapshot("https://mcp.example/mcp", allowed_tools=[1]), "must be a list of tool names"),
        (mcp_snapshot(server=MCPServer("stdio", command="sh"), org_id=new_id()), "only a system plugin"),
    ):
        with pytest.raises(PluginLoadFailed, match=reason):
            await strict.load(plugin, org_id=new_id(), instance_id=new_id())


async def test_a_name_that_resolves_to_a_private_address_is_never_connected_to(
    mcp_server: FakeMCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves(monkeypatch, "93.184.215.14", "127.0.0.1")
    plugin = mcp_snapshot(mcp_server.url.replace("http://127.0.0.1", "https://mcp.example"))
    bundle = await MCPLoader(allow_private=False).load(plugin, org_id=new_id(), instance_id=new_id())
    try:
        content, is_error = await added(bundle)
        assert is_error
        assert "resolves to an address that is private or reserved" in content
        assert mcp_server.requests == []
    finally:
        await bundle.close()


async def test_the_address_that_was_checked_is_the_one_that_is_called(
    load: Load, mcp_server: FakeMCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server still sees the name it is called by."""
    resolves(monkeypatch, "127.0.0.1")

    bundle = await load(mcp_snapshot(mcp_server.url.replace("127.0.0.1", "mcp.example")))

    assert await added(bundle) == ("5", False)
    assert {seen["host"].split(":")[0] for seen in mcp_server.requests} == {"mcp.example"}


async def test_a_certificate_must_be_of_the_name_and_not_of_the_address(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = certificate_of("mcp.example", tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(http, "_tls_context", lambda: trusting)
    resolves(monkeypatch, "127.0.0.1")
    async with FakeMCPServer(add, certificate=certificate) as server:
        right = await load(mcp_snapshot(server.url.replace("127.0.0.1", "mcp.example")))
        wrong = await load(mcp_snapshot(server.url.replace("127.0.0.1", "other.example")))
        assert await added(right) == ("5", False)
        content, is_error = await added(wrong)
        assert is_error
        assert "no connection to the server could be made" in content


def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name has these addresses; addresses have themselves."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        found = [host] if host[0].isdigit() else addresses
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
