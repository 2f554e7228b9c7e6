import asyncio
from collections.abc import AsyncIterator

import pytest

from runtime_worker.plugins.base import PluginBundle
from runtime_worker.plugins.mcp_loading import MCPLoader
from shared.ids import new_id
from shared.snapshots import PluginSnapshot
from tests.fakes.fixtures import model_server as model_server
from tests.fakes.mcp_server import FakeMCPServer
from tests.integration.control_plane.conftest import app, http, resources, root, routes, settings, world
from tests.integration.mcp.bundles import Load, add, divide

__all__ = ["app", "http", "load", "mcp_server", "model_server", "resources", "root", "routes", "settings", "world"]


@pytest.fixture
async def mcp_server() -> AsyncIterator[FakeMCPServer]:
    """A server of today's protocol with two tools."""
    async with FakeMCPServer(add, divide) as server:
        yield server


@pytest.fixture
async def load() -> AsyncIterator[Load]:
    """Loads bundles that are closed when the test is over."""
    loader = MCPLoader(allow_private=True)
    loaded: list[PluginBundle] = []

    async def bundle(plugin: PluginSnapshot) -> PluginBundle:
        loaded.append(await loader.load(plugin, org_id=new_id(), instance_id=new_id()))
        return loaded[-1]

    yield bundle
    await asyncio.gather(*(bundle.close() for bundle in loaded))
