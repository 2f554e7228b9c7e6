"""The worker with nothing replaced but the model and the control plane: engine, model client, plugin, whole process."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession
from redis.asyncio import Redis

from shared.clock import SystemClock
from shared.frameworks import Provider
from shared.ids import new_id
from shared.pricing import ModelPrice
from shared.security.sessions import SessionStore
from shared.security.tokens import TokenSigner
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import TOKEN, FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import Gate, Text, usage_of
from tests.integration.runtime_worker.worker import SECRET, Caller, eventually, running_worker

ENCRYPTION_KEYS = "test:" + bytes(range(32)).hex()


async def test_a_supervisor_streams_what_the_model_says_and_remembers_it(
    settings: WorkerSettings, control_plane: FakeControlPlane, model_server: ModelServer
) -> None:
    instance = control_plane.put(
        instance_snapshot(llm_config_snapshot(model_server.base_url), org_id=new_id()), tier="demand"
    )
    model_server.tools(("conversational", {}))
    model_server.answer("Hi", " there")
    model_server.tools(("conversational", {}))
    model_server.answer("Again")
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(instance.org_id)
        events = await member.stream(instance.instance_id, "hello")
        assert [e.name for e in events] == [
            "metadata",
            *("agent_start", "agent_end"),
            *("agent_start", "message", "message", "agent_end"),
            "metadata",
        ]
        assert events[-1].data["usage"] == {
            "input_tokens": 20,
            "output_tokens": 10,
            "cached_tokens": 0,
            "cost": None,
            "is_estimated": False,
        }
        await member.stream(instance.instance_id, "and?", conversation_id=events[0].data["conversation_id"])
    said = [m["content"] for m in model_server.calls[-1].messages if m["role"] in ("user", "assistant")]
    assert said[-3:] == ["hello", "Hi there", "and?"]


async def test_a_run_over_two_models_costs_what_both_cost_when_it_began(
    settings: WorkerSettings, control_plane: FakeControlPlane, model_server: ModelServer
) -> None:
    credential = llm_config_snapshot(model_server.base_url, model_name="small")
    nodes = {"conversational_node": {"model_name": "large"}}
    small = ModelPrice(Provider.OPENAI, "small", Decimal("0.1"), Decimal("0.2"))
    large = ModelPrice(Provider.OPENAI, "large", Decimal(1), Decimal(2), Decimal("0.5"))
    instance = control_plane.put(
        instance_snapshot(credential, mode_config=nodes, org_id=new_id()), tier="demand", prices=(small, large)
    )
    for _ in range(2):
        model_server.tools(("conversational", {}), usage=usage_of(1_000, 100))
        model_server.answer("Hi", usage=usage_of(2_000, 500, cached=1_000))
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(instance.org_id)
        events = await member.stream(instance.instance_id, "hello")
        # 1000 × 0.1 + 100 × 0.2, and 1000 × 1 + 1000 × 0.5 + 500 × 2, per million
        assert events[-1].data["usage"]["cost"] == 0.00262
        conversation = f"/conversations/{events[0].data['conversation_id']}/messages"
        _, page = await member.call("GET", conversation)
        assert page["items"][1]["usage"]["cost"] == 0.00262

        control_plane.put(instance, prices=(small,))
        worker.worker.reconciler.poke()
        entry = worker.worker.pool._index.hot[instance.instance_id]
        await eventually(lambda: entry.current is not None and entry.current.snapshot.prices == (small,))
        _, answer = await member.chat(instance.instance_id, "and?")
        assert answer["usage"]["cost"] is None
        _, page = await member.call("GET", conversation)
        assert page["items"][1]["usage"]["cost"] == 0.00262


async def test_cancelling_closes_the_upstream_socket_and_keeps_what_was_said(
    settings: WorkerSettings, control_plane: FakeControlPlane, model_server: ModelServer
) -> None:
    instance = control_plane.put(
        instance_snapshot(llm_config_snapshot(model_server.base_url), org_id=new_id()), tier="demand"
    )
    gate = Gate()
    model_server.tools(("conversational", {}))
    model_server.step(Text("Half an"), gate)
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(instance.org_id)
        async with member.streaming(instance.instance_id, "hello") as stream:
            opening = await stream.next()
            assert opening is not None
            while (event := await stream.next()) and event.name != "message":
                pass
            assert (await member.call("POST", f"/runs/{opening.data['run_id']}/cancel"))[0] == 202
            rest = [event async for event in stream]
        assert rest[-1].data["status"] == "cancelled"
        # The upstream socket is closed with the run: nobody pays for tokens that nobody reads.
        await asyncio.wait_for(model_server.calls[-1].hung_up.wait(), 5)
        _, page = await member.call("GET", f"/conversations/{opening.data['conversation_id']}/messages")
        assert page["items"][1]["content"] == "Half an"


@asynccontextmanager
async def process(settings: WorkerSettings) -> AsyncIterator[Process]:
    """`python -m runtime_worker` as a supervisor starts it, answering."""
    environment = {
        **os.environ,
        "CADENCE_SECRET_KEY": SECRET,
        "CADENCE_ENCRYPTION_KEYS": ENCRYPTION_KEYS,
        "CADENCE_WORKER_TOKEN": TOKEN,
        "CADENCE_WORKER_PORT": str(settings.port),
        "CADENCE_CONTROL_PLANE_URL": settings.control_plane_url,
        "CADENCE_MONGO_URL": settings.mongo_url,
        "CADENCE_REDIS_URL": settings.redis_url,
        "CADENCE_BROKER_URL": settings.broker_url,
        "CADENCE_STORAGE_ROOT": str(settings.packages.storage_root),
        "CADENCE_PACKAGE_CACHE": str(settings.package_cache),
        "CADENCE_ALLOW_PRIVATE_MODEL_HOSTS": "true",
        "CADENCE_DRAIN_SECONDS": "10",
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime_worker", env=environment, stderr=PIPE, cwd=Path.cwd()
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def test_sigterm_lets_a_live_stream_finish_and_then_ends_the_process(
    settings: WorkerSettings, control_plane: FakeControlPlane, model_server: ModelServer
) -> None:
    instance = control_plane.put(
        instance_snapshot(llm_config_snapshot(model_server.base_url), org_id=new_id()), tier="hot"
    )
    gate = Gate()
    model_server.tools(("conversational", {}))
    model_server.step(Text("before "), gate, Text("after"))
    async with process(settings) as started, ClientSession() as http:
        await eventually(lambda: ready(http, settings.public_url), seconds=30)
        member = await signed_in(http, settings, control_plane, instance)
        async with member.streaming(instance.instance_id, "go") as stream:
            while (event := await stream.next()) and event.name != "message":
                pass
            started.send_signal(signal.SIGTERM)
            await eventually(lambda: drains(http, settings.public_url))
            status, problem = await member.chat(instance.instance_id, "too late")
            assert (status, problem["code"]) == (503, "SY-0002")
            gate.opens.set()
            rest = [event async for event in stream]
        assert "".join(e.data["content"] for e in rest if e.name == "message") == "after"
        assert (rest[-1].data["status"], rest[-1].data["saved"]) == ("completed", True)
        assert await asyncio.wait_for(started.wait(), 20) == 0


async def test_bad_settings_are_told_all_at_once(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CADENCE_")}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime_worker", env={**kept, "CADENCE_SECRET_KEY": "short"}, stderr=PIPE
    )
    _, told = await started.communicate()
    assert started.returncode == 2
    assert {line.split(b":")[0].split()[0] for line in told.splitlines()} >= {
        b"CADENCE_SECRET_KEY",
        b"CADENCE_MONGO_URL",
        b"CADENCE_REDIS_URL",
    }


async def ready(http: ClientSession, url: str) -> bool:
    return (await _status(http, url)) == 200


async def drains(http: ClientSession, url: str) -> bool:
    return (await _status(http, url)) == 503


async def _status(http: ClientSession, url: str) -> int:
    try:
        async with http.get(url + "/health/ready") as response:
            return response.status
    except (ClientError, OSError):
        return 0


async def signed_in(
    http: ClientSession, settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> Caller:
    user_id = new_id()
    control_plane.admit(user_id, instance.org_id)
    redis: Any = Redis.from_url(settings.redis_url)
    async with redis:
        session = await SessionStore(redis, SystemClock()).start(user_id, timedelta(minutes=5))
    token = TokenSigner(SECRET).issue(
        user_id, session.session_id, issued_at=session.created_at, expires_at=session.expires_at
    )
    return Caller(http, settings.public_url, user_id, instance.org_id, token)
