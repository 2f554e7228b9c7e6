"""Plugins that exclude each other answer in one orchestrator, and none of them was ever in a process of ours."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import psutil
import pytest

from tests.e2e.client import Client, Stream
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant
from tests.e2e.witnessing import Witnesses, open_plugin_files, plugin_lines
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_packages import package

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

TELLS = """
{top}

@uvtool
def {tool}() -> str:
    '''Tell which version of tides this plugin has.'''
    return f"{owner} has {{tides.VERSION}}"
"""


def telling(pid: str, owner: str, tides: str, *, tool: str = "tells") -> bytes:
    tools = TELLS.format(top="import tides", tool=tool, owner=owner)
    return package(pid=pid, tools=tools, tool_names=tool, metadata=f"dependencies=['tides=={tides}']")


@pytest.fixture
async def scripted() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


async def uploaded(client: Client, path: str, data: bytes, **fields: str) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("file", data, filename="p.zip", content_type="application/zip")
    for name, value in fields.items():
        form.add_field(name, value)
    made: dict[str, Any] = await client.made("POST", f"{path}/upload", data=form)
    return made


async def use(tenant: Tenant, *plugin_ids: str) -> None:
    await tenant.client.made("PATCH", tenant.path, json={"active_plugin_ids": list(plugin_ids)})
    await tenant.until_ready()


async def told(scripted: ModelServer, tenant: Tenant, *tools: str) -> list[str]:
    """What the tools answered when the model called them."""
    scripted.forget()
    scripted.tools(*((tool, {}) for tool in tools))
    scripted.answer("DONE")
    scripted.answer("That is all.")
    run: Stream = await tenant.client.stream(tenant.stream_path, "Who has what?")
    assert run.is_completed, run
    return sorted(str(end.get("result")) for end in run.of("tool_end"))


async def test_two_versions_of_one_package_answer_in_one_orchestrator(admin: Client, scripted: ModelServer) -> None:
    tenant = await Tenant.create(admin, scripted.base_url)
    old = await uploaded(
        admin, f"{tenant.org_path}/plugins", telling("dev.example.old", "the old one", "1.0", tool="tells_old")
    )
    new = await uploaded(
        admin, f"{tenant.org_path}/plugins", telling("dev.example.new", "the new one", "2.0", tool="tells_new")
    )
    await use(tenant, old["id"], new["id"])

    assert await told(scripted, tenant, "tells_old", "tells_new") == ["the new one has 2.0", "the old one has 1.0"]


async def test_two_tenants_with_one_pid_have_each_their_own(admin: Client, scripted: ModelServer) -> None:
    pid = "dev.example.same"
    answers = []
    for owner, tides in (("the first", "1.0"), ("the second", "2.0")):
        tenant = await Tenant.create(admin, scripted.base_url)
        plugin = await uploaded(admin, f"{tenant.org_path}/plugins", telling(pid, owner, tides))
        await use(tenant, plugin["id"])
        answers.append((tenant, f"{owner} has {tides}"))

    # In turns, so that both are there at once.
    for tenant, expected in (*answers, *answers):
        assert await told(scripted, tenant, "tells") == [expected]


async def test_code_of_tenants_never_runs_in_a_process_of_the_platform(
    stack: RunningStack, admin: Client, scripted: ModelServer, witnesses: Witnesses
) -> None:
    tenant = await Tenant.create(admin, scripted.base_url)
    own = await uploaded(admin, f"{tenant.org_path}/plugins", telling("dev.example.own", "the tenant", "1.0"))
    tools = TELLS.format(top="class tides: VERSION = 'none'", tool="tells", owner="the system")
    trusting = package(pid="dev.example.trusted", tools=tools, tool_names="tells")
    system = await uploaded(admin, "/api/admin/plugins", trusting, trusted="true")
    witnesses.trusted.add(system["digest"])
    await use(tenant, own["id"])
    assert await told(scripted, tenant, "tells") == ["the tenant has 1.0"]
    other = await Tenant.create(admin, scripted.base_url)
    await use(other, system["id"])
    assert await told(scripted, other, "tells") == ["the system has none"]

    # The witnesses do see code that runs there: of the trusted plugin, in a worker.
    workers = witnesses.processes_with("runtime_worker.wiring")
    assert {process_id for process_id, _ in witnesses.plugin_code()} <= set(workers)
    assert any(line.endswith("plugin.py") for _, line in witnesses.plugin_code())
    assert witnesses.foreign_code() == set()
    # And as it is now: what is imported, open or mapped in the living processes of both planes.
    planes = living(stack, [*workers, *witnesses.processes_with("control_plane.wiring")])
    assert len(planes) >= 3
    for process_id in planes:
        modules = await asyncio.to_thread(witnesses.modules, process_id)
        assert "shared.packages.modules " in modules
        assert [line for line in plugin_lines(modules) if system["digest"][:16] not in line] == []
        assert open_plugin_files(process_id) == []


def living(stack: RunningStack, process_ids: list[int]) -> list[int]:
    alive = {child.pid for child in psutil.Process(stack.process.pid).children(recursive=True)}
    return sorted(alive & set(process_ids))
