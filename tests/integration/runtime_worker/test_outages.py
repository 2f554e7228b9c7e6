"""Stores that go away during traffic, and everything working again afterwards without a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from runtime_worker.engines.base import EventSink, RunRequest
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, echo, say
from tests.fakes.tcp_proxy import TcpProxy
from tests.integration.runtime_worker.worker import (
    Caller,
    RunningWorker,
    eventually,
    running_worker,
    worker_settings,
)


async def wire_to(url: str) -> tuple[TcpProxy, str]:
    """A wire to cut, and the URL that goes through it."""
    parts = urlsplit(url)
    proxy = TcpProxy(parts.hostname or "127.0.0.1", parts.port or 0)
    await proxy.mend()
    return proxy, urlunsplit(parts._replace(netloc=f"127.0.0.1:{proxy.port}"))


class Wired:
    """A worker whose Redis and MongoDB hang on wires."""

    def __init__(self, worker: RunningWorker, redis: TcpProxy, mongo: TcpProxy) -> None:
        self.worker = worker
        self.redis = redis
        self.mongo = mongo


@pytest.fixture
async def wired(
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    redis_url: str,
    mongo_url: str,
    nats_server_url: str,
    tmp_path: Path,
) -> AsyncIterator[Wired]:
    redis, redis_through = await wire_to(redis_url)
    mongo, mongo_through = await wire_to(mongo_url)
    # The wire's port is not in the replica set's configuration, so the driver must not look for it there.
    direct = urlsplit(mongo_through)._replace(path="/", query="directConnection=true")
    settings = worker_settings(
        control_plane=control_plane,
        redis_url=redis_through,
        mongo_url=urlunsplit(direct),
        broker_url=nats_server_url,
        home=tmp_path,
    )
    async with running_worker(settings, control_plane, builder) as worker:
        yield Wired(worker, redis, mongo)
    await redis.cut()
    await mongo.cut()


async def test_without_redis_nobody_gets_in_and_afterwards_everybody_does(
    wired: Wired, instance: OrchestratorSnapshot
) -> None:
    member = await wired.worker.sign_in(instance.org_id)
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    await wired.redis.cut()
    status, problem = await member.chat(instance.instance_id, "hi")
    assert (status, problem["code"]) == (503, "DB-0001")
    status, body = await wired.worker.ready()
    assert (status, body["dependencies"]["redis"]) == (503, "down")
    await wired.redis.mend()
    await eventually(lambda: answers(member, instance))
    assert (await wired.worker.ready())[0] == 200


async def test_without_mongodb_no_run_starts_and_afterwards_they_do(
    wired: Wired, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    member = await wired.worker.sign_in(instance.org_id)
    _, first = await member.chat(instance.instance_id, "hi")
    await wired.mongo.cut()
    async with member.http.post(
        f"{member.url}/orchestrators/{instance.instance_id}/completion/stream",
        headers=member.headers,
        json={"message": "hi", "conversation_id": first["conversation_id"]},
    ) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert (await response.json(content_type=None))["code"] == "DB-0001"
    assert len(builder.requests) == 1
    await wired.mongo.mend()
    await eventually(lambda: answers(member, instance, conversation_id=first["conversation_id"]))


async def test_a_turn_that_cannot_be_stored_touches_nothing_and_leaves_no_run(
    wired: Wired, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    member = await wired.worker.sign_in(instance.org_id)
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    did: list[str] = []

    async def acts(request: RunRequest, sink: EventSink) -> None:
        did.append("thought")
        await sink.recorded()
        did.append("acted")

    builder.script = acts
    wired.mongo.freeze()
    status, problem = await member.chat(instance.instance_id, "send the letter")
    assert (status, problem["code"], did) == (503, "DB-0001", ["thought"])

    async def nothing_runs() -> bool:
        _, body = await wired.worker.ready()
        return bool(body["active_runs"] == 0)

    await eventually(nothing_runs)
    wired.mongo.thaw()
    await eventually(lambda: answers(member, instance))
    assert did.count("acted") == 1


async def test_while_mongodb_hangs_no_organization_waits_for_the_others(
    wired: Wired, control_plane: FakeControlPlane
) -> None:
    organizations = [new_id() for _ in range(12)]
    model = "http://model.test/v1"
    instances = [
        control_plane.put(instance_snapshot(llm_config_snapshot(model), org_id=org_id), tier="demand")
        for org_id in organizations
    ]
    members = [await wired.worker.sign_in(org_id) for org_id in organizations]
    wired.mongo.freeze()
    # One after the other they would take half a minute, each giving MongoDB its own time to answer.
    async with asyncio.timeout(20):
        refusals = await asyncio.gather(
            *(member.chat(instance.instance_id, "hi") for member, instance in zip(members, instances, strict=True))
        )
    assert {(status, problem["code"]) for status, problem in refusals} == {(503, "DB-0001")}
    wired.mongo.thaw()
    for member, instance in zip(members, instances, strict=True):
        await eventually(lambda member=member, instance=instance: answers(member, instance))


async def test_an_answer_that_could_not_be_stored_at_once_says_so_and_is_stored_later(
    wired: Wired, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()

    async def slow(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "precious ")
        await go_on.wait()
        await say(sink, "words")

    builder.script = slow
    member = await wired.worker.sign_in(instance.org_id)
    async with member.streaming(instance.instance_id, "hi") as stream:
        opening = await stream.next()
        assert opening is not None
        await stream.next()
        await wired.mongo.cut()
        go_on.set()
        events = [event async for event in stream]
    assert (events[-1].data["status"], events[-1].data["saved"]) == ("completed", False)
    await wired.mongo.mend()
    path = f"/conversations/{opening.data['conversation_id']}"

    told: list[str] = []

    async def stored() -> bool:
        """The whole turn; meanwhile the run is not over, and not lost either."""
        status, run = await member.call("GET", f"/runs/{opening.data['run_id']}")
        told.extend([run["status"]] if status == 200 else [])
        return told[-1:] == ["completed"]

    await eventually(stored)
    assert set(told) <= {"running", "completed"}
    _, page = await member.call("GET", path + "/messages")
    assert [message["content"] for message in page["items"]] == ["hi", "precious words"]
    assert (await member.call("GET", path))[1]["message_count"] == 2


async def test_the_next_turn_knows_an_answer_that_is_not_stored_yet(
    wired: Wired, instance: OrchestratorSnapshot, builder: ScriptedBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime_worker.turn.backlog.RETRY_SECONDS", 3600)
    member = await wired.worker.sign_in(instance.org_id)

    go_on = asyncio.Event()

    async def slow(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "precious words")
        await go_on.wait()

    builder.script = slow
    async with member.streaming(instance.instance_id, "hi") as stream:
        opening = await stream.next()
        assert opening is not None
        await wired.mongo.cut()
        go_on.set()
        assert [event async for event in stream][-1].data["saved"] is False
    await wired.mongo.mend()
    builder.script = echo
    conversation_id = opening.data["conversation_id"]

    async def answered() -> bool:
        """Once the driver has found MongoDB again."""
        return (await member.chat(instance.instance_id, "and?", conversation_id=conversation_id))[0] == 200

    await eventually(answered)
    assert [told.content for told in builder.requests[-1].history] == ["hi", "precious words"]


async def test_a_run_survives_redis_going_away_under_it(
    wired: Wired, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()

    async def slow(request: RunRequest, sink: EventSink) -> None:
        await go_on.wait()
        await say(sink, "still here")

    builder.script = slow
    member = await wired.worker.sign_in(instance.org_id)
    async with member.streaming(instance.instance_id, "hi") as stream:
        await stream.next()
        await wired.redis.cut()
        go_on.set()
        events = [event async for event in stream]
    assert events[-1].data["saved"] is True
    await wired.redis.mend()


async def answers(member: Caller, instance: OrchestratorSnapshot, **body: Any) -> bool:
    return (await member.chat(instance.instance_id, "hi again", **body))[0] == 200
