"""From an admin who adds a server to a member who gets an answer made with its tool: control plane, worker, engine."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import pytest

from control_plane.wiring import Resources
from shared.settings import WorkerSettings
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.mcp_server import FakeMCPServer
from tests.fakes.model_server import ModelServer
from tests.integration.control_plane.callers import World
from tests.integration.control_plane.test_worker_feed import snapshot_of
from tests.integration.control_plane.workshop import Workshop
from tests.integration.runtime_worker.worker import Event, eventually, running_worker, worker_settings

PID = "com.acme.remote"
KEY = "Bearer canary-of-a-header"


@pytest.fixture
async def feed() -> AsyncIterator[FakeControlPlane]:
    """Serves workers the snapshots that the real control plane made."""
    async with FakeControlPlane() as server:
        yield server


@pytest.fixture
def worker(
    resources: Resources, feed: FakeControlPlane, redis_url: str, mongo_url: str, nats_server_url: str, tmp_path: Path
) -> WorkerSettings:
    """A worker that has the control plane's keys."""
    settings = worker_settings(
        control_plane=feed, redis_url=redis_url, mongo_url=mongo_url, broker_url=nats_server_url, home=tmp_path
    )
    security = msgspec.structs.replace(settings.security, keyring=resources.keyring)
    return msgspec.structs.replace(settings, security=security)


async def test_an_orchestrator_answers_with_the_tool_of_a_server(
    world: World,
    resources: Resources,
    http: httpx.AsyncClient,
    mcp_server: FakeMCPServer,
    model_server: ModelServer,
    feed: FakeControlPlane,
    worker: WorkerSettings,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shop = await Workshop.open(world, resources)
    llm_config_id = await shop.llm_config(base_url=model_server.base_url)
    described = {"pid": PID, "version": "1.0.0", "name": "Remote", "description": "Calculates elsewhere"}
    server = {"transport": "streamable_http", "url": mcp_server.url, "headers": {"Authorization": KEY}}
    added = await shop.admin.post(f"{shop.tenant.path}/plugins/mcp", {**described, **server})
    assert added.status_code == 201, added.text
    made = await shop.orchestrator(active_plugin_ids=[PID], config={"default_llm_config_id": llm_config_id})
    snapshot = await snapshot_of(http, made["instance_id"])
    feed.snapshots[snapshot.instance_id] = snapshot

    async with running_worker(worker, feed, None) as running:
        member = await running.sign_in(UUID(shop.tenant.org_id))
        model_server.tools(("add", {"a": 40, "b": 2}, "call_1"))
        model_server.answer("DONE")
        model_server.answer("It is 42.")
        events = await member.stream(snapshot.instance_id, "40+2?")

        assert answer_of(events) == "It is 42."
        (ended,) = [event.data for event in events if event.name == "tool_end"]
        assert (ended["tool"], ended["result"]) == (f"{PID}.add", {"result": 42})
        assert model_server.last.tool_results == ["42"]
        assert mcp_server.requests[-1]["authorization"] == KEY

        # The server has a new tool; nothing is saved, nothing reloaded, and the next turn may use it.
        await mcp_server.offer(negate)
        pool = running.worker.pool
        (bundle,) = running.worker._parts._bundles._held
        await eventually(lambda: [tool.name for tool in bundle.tools] == ["add", "divide", "negate"])
        model_server.tools(("negate", {"a": 42}))
        model_server.answer("DONE")
        model_server.answer("It is -42.")
        assert answer_of(await member.stream(snapshot.instance_id, "and negated?")) == "It is -42."
        assert pool.counts().hot == 1

        # The server goes away; the run tells the model and goes on.
        await mcp_server.stop()
        model_server.tools(("add", {"a": 1, "b": 1}))
        model_server.answer("DONE")
        model_server.answer("I cannot add now.")
        events = await member.stream(snapshot.instance_id, "1+1?")
        (ended,) = [event.data for event in events if event.name == "tool_end"]
        assert ended["error"]
        assert answer_of(events) == "I cannot add now."
    assert KEY not in "".join(capfd.readouterr())


def negate(a: int) -> int:
    """Negate."""
    return -a


def answer_of(events: list[Event]) -> str:
    return "".join(event.data["content"] for event in events if event.name == "message")
