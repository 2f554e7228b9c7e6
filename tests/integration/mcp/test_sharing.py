"""One connection for an organization's instances with the same settings, and never one for two organizations."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from runtime_worker.plugins.base import PluginBundle
from runtime_worker.plugins.registry import BundleRegistry
from shared.ids import new_id
from shared.snapshots import SEALED_DEFAULT_FIELD, PluginSnapshot, plugin_default_place
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import KEYRING
from tests.fakes.mcp_plugins import mcp_snapshot
from tests.fakes.mcp_server import FakeMCPServer
from tests.integration.runtime_worker.worker import worker_settings


@pytest.fixture
async def bundles(tmp_path: Path) -> AsyncIterator[BundleRegistry]:
    """A worker's, without a worker around it."""
    settings = worker_settings(
        control_plane=FakeControlPlane(), redis_url="", mongo_url="", broker_url="", home=tmp_path
    )
    registry = BundleRegistry(settings)
    yield registry
    await registry.close()


def sealed(plugin: PluginSnapshot, **settings: Any) -> PluginSnapshot:
    """With settings sealed in the plugin's row, as the control plane sends them."""
    stored = {
        key: {
            SEALED_DEFAULT_FIELD: KEYRING.seal(
                msgspec.json.encode(value).decode(), **plugin_default_place(plugin.source, plugin.plugin_id, key)
            )
        }
        for key, value in settings.items()
    }
    return msgspec.structs.replace(plugin, settings=stored)


async def acquired(bundles: BundleRegistry, plugin: PluginSnapshot, org_id: UUID) -> PluginBundle:
    return await bundles.acquire(plugin, org_id=org_id, instance_id=new_id())


def connections(server: FakeMCPServer) -> int:
    return sum(seen.get("mcp-method") == "server/discover" for seen in server.requests)


async def test_instances_of_an_organization_share_a_connection_and_others_do_not(
    bundles: BundleRegistry, mcp_server: FakeMCPServer
) -> None:
    ours, theirs = new_id(), new_id()
    plugin = mcp_snapshot(mcp_server.url)

    first, second = await acquired(bundles, plugin, ours), await acquired(bundles, plugin, ours)
    assert first is second
    assert connections(mcp_server) == 1
    assert await acquired(bundles, plugin, theirs) is not first
    assert connections(mcp_server) == 2

    await bundles.release(first)
    assert not (await second.call("add", {"a": 1, "b": 1}, timeout_seconds=10)).is_error


async def test_headers_are_opened_in_the_worker_and_keep_connections_apart(
    bundles: BundleRegistry, mcp_server: FakeMCPServer
) -> None:
    org_id = new_id()
    blank = mcp_snapshot(mcp_server.url)
    one = sealed(blank, headers={"Authorization": "Bearer one"})
    assert "Bearer one" not in str(one)

    first = await acquired(bundles, one, org_id)
    assert {seen.get("authorization") for seen in mcp_server.requests} == {"Bearer one"}
    again = await acquired(bundles, sealed(blank, headers={"Authorization": "Bearer one"}), org_id)
    other = await acquired(bundles, sealed(blank, headers={"Authorization": "Bearer two"}), org_id)

    assert again is first
    assert other is not first
    assert connections(mcp_server) == 2
