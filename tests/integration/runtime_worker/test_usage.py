"""What a run used is told once it has ended, however it ended, in the very step that ends it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import msgspec
import pytest
from redis.asyncio import Redis

from runtime_worker.engines.base import EventSink, ModelCall, RunRequest
from runtime_worker.models.base import Usage
from runtime_worker.turn.claims import CLAIMS
from shared.frameworks import Provider
from shared.ids import new_id
from shared.pricing import ModelPrice
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from shared.usage import FIELD, STREAM, RunFinished, decode_run
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import Gate, HangUp, Text, usage_of
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.fakes.tcp_proxy import tcp_proxy
from tests.integration.runtime_worker.pairs import Pair, until
from tests.integration.runtime_worker.test_api_keys import publish
from tests.integration.runtime_worker.test_leaving import pair as pair
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually, running_worker

SMALL = ModelPrice(Provider.OPENAI, "small", Decimal("0.1"), Decimal("0.2"))
LARGE = ModelPrice(Provider.OPENAI, "large", Decimal(1), Decimal(2), Decimal("0.5"))
DIRECT: tuple[str, dict[str, object]] = ("conversational", {})


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def told(redis: Redis, org_id: object, count: int = 1) -> list[RunFinished]:
    """What was told of an organization's runs, once that is `count` entries."""

    async def found() -> list[RunFinished]:
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(STREAM))
        runs = [decode_run(fields[FIELD.encode()]) for _, fields in entries]
        ours = [run for run in runs if run.org_id == org_id]
        return ours if len(ours) >= count else []

    return cast("list[RunFinished]", await eventually(found))


@pytest.fixture
def priced(control_plane: FakeControlPlane, model_server: ModelServer) -> OrchestratorSnapshot:
    """A supervisor that thinks with one model and answers with another."""
    credential = llm_config_snapshot(model_server.base_url, model_name="small", max_retries=0)
    nodes = {"conversational_node": {"model_name": "large"}}
    snapshot = instance_snapshot(credential, mode_config=nodes, org_id=new_id())
    return control_plane.put(snapshot, tier="demand", prices=(SMALL, LARGE))


async def test_every_call_of_a_run_is_told_with_the_price_it_had(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    model_server: ModelServer,
    priced: OrchestratorSnapshot,
    redis: Redis,
) -> None:
    model_server.tools(DIRECT, usage=usage_of(1_000, 100))
    model_server.answer("Hi", usage=usage_of(2_000, 500, cached=1_000))
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(priced.org_id)
        events = await member.stream(priced.instance_id, "hello")
        (run,) = await told(redis, priced.org_id)
    assert (str(run.run_id), run.status) == (events[0].data["run_id"], "completed")
    assert (run.instance_id, run.user_id, run.api_key_id) == (priced.instance_id, member.user_id, None)
    first, second = run.calls
    assert (first.model_name, first.node, first.input_tokens, first.output_tokens) == (
        "small",
        "supervisor_node",
        1_000,
        100,
    )
    assert (first.input_price, first.output_price, first.cached_price) == (Decimal("0.1"), Decimal("0.2"), None)
    assert (second.model_name, second.node, second.cached_tokens) == ("large", "conversational_node", 1_000)
    assert (first.cost, second.cost) == (Decimal("0.00012"), Decimal("0.0025"))
    assert not first.is_estimated
    assert Decimal(str(events[-1].data["usage"]["cost"])) == Decimal("0.00262")


async def test_a_provider_that_counts_nothing_is_estimated_and_marked(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    model_server: ModelServer,
    priced: OrchestratorSnapshot,
    redis: Redis,
) -> None:
    model_server.tools(DIRECT, usage=None)
    model_server.answer("Four letters each", usage=None)
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(priced.org_id)
        await member.stream(priced.instance_id, "hello")
        (run,) = await told(redis, priced.org_id)
    assert [call.is_estimated for call in run.calls] == [True, True]
    assert run.calls[1].output_tokens == 5
    assert run.calls[1].cost is not None


async def test_a_cancelled_run_tells_also_of_the_call_that_was_cut_off(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    model_server: ModelServer,
    priced: OrchestratorSnapshot,
    redis: Redis,
) -> None:
    model_server.tools(DIRECT, usage=usage_of(1_000, 100))
    model_server.step(Text("Half an answer.."), Gate())
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(priced.org_id)
        async with member.streaming(priced.instance_id, "hello") as stream:
            opening = await stream.next()
            assert opening is not None
            while (event := await stream.next()) and event.name != "message":
                pass
            await member.call("POST", f"/runs/{opening.data['run_id']}/cancel")
            rest = [event async for event in stream]
        (run,) = await told(redis, priced.org_id)
    assert run.status == "cancelled"
    assert [(c.model_name, c.is_estimated, c.output_tokens) for c in run.calls] == [
        ("small", False, 100),
        ("large", True, 4),
    ]
    assert run.calls[1].input_tokens > 0
    # The client is told the same.
    assert rest[-1].data["usage"]["output_tokens"] == 104
    assert rest[-1].data["usage"]["cost"] is not None


async def test_a_failed_run_tells_of_what_was_spent(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    model_server: ModelServer,
    priced: OrchestratorSnapshot,
    redis: Redis,
) -> None:
    model_server.tools(DIRECT, usage=usage_of(1_000, 100))
    model_server.step(Text("Half"), HangUp())
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(priced.org_id)
        events = await member.stream(priced.instance_id, "hello")
        (run,) = await told(redis, priced.org_id)
    assert (events[-1].name, run.status) == ("error", "failed")
    assert [(c.model_name, c.is_estimated) for c in run.calls] == [("small", False), ("large", True)]


async def test_a_model_that_refuses_has_used_nothing(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    model_server: ModelServer,
    priced: OrchestratorSnapshot,
    redis: Redis,
) -> None:
    model_server.fail(400)
    model_server.fail(400)
    async with running_worker(settings, control_plane, None) as worker:
        member = await worker.sign_in(priced.org_id)
        await member.stream(priced.instance_id, "hello")
        (run,) = await told(redis, priced.org_id)
    assert run.calls == ()


async def test_runs_are_told_of_while_the_broker_is_away(
    settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, redis: Redis
) -> None:
    cut_off = msgspec.structs.replace(settings, broker_url="nats://127.0.0.1:1")
    async with running_worker(cut_off, control_plane, ScriptedBuilder()) as worker:
        member = await worker.sign_in(instance.org_id)
        await asyncio.gather(*(member.chat(instance.instance_id, "hello") for _ in range(3)))
        assert len({run.run_id for run in await told(redis, instance.org_id, 3)}) == 3


async def test_what_ended_while_redis_was_away_is_told_when_it_is_back(
    settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, redis: Redis
) -> None:
    may_end = asyncio.Event()

    async def script(request: object, sink: object) -> None:
        await may_end.wait()

    async with tcp_proxy(settings.redis_url) as (wire, url):
        through = msgspec.structs.replace(settings, redis_url=url)
        async with running_worker(through, control_plane, ScriptedBuilder(script)) as worker:
            member = await worker.sign_in(instance.org_id)
            chatting = asyncio.create_task(member.chat(instance.instance_id, "hello"))
            await eventually(lambda: len(worker.worker.table.all()) == 1)
            await wire.cut()
            may_end.set()
            status, answer = await chatting
            assert status == 200
            assert await redis.xlen(STREAM) == 0
            await wire.mend()
            (run,) = await told(redis, instance.org_id)
            assert str(run.run_id) == answer["run_id"]


async def test_a_run_that_was_stored_and_not_told_is_told_by_whoever_finds_it(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, redis: Redis
) -> None:
    _, answer = await member.chat(instance.instance_id, "hello")
    (run,) = await told(redis, instance.org_id)
    # As if the worker had been killed between the two: the end stored, the entry not written, the claim running out.
    await redis.delete(STREAM)
    await redis.zadd(CLAIMS, {f"{instance.org_id}:{answer['run_id']}": 0})
    assert await told(redis, instance.org_id) == [run]


async def test_a_run_that_is_handed_over_tells_what_it_used_until_then(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder, redis: Redis
) -> None:
    async def asks_and_halts(request: RunRequest, sink: EventSink) -> None:
        now = datetime.now(UTC)
        request.calls.append(ModelCall("a_node", Provider.OPENAI, "small", Usage(10, 3), 5, now))
        await say(sink, "shown so far")
        await asyncio.Event().wait()

    builder.script = asks_and_halts
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        await until(stream, "shown so far")
        await pair.one.worker.drain()
    handed_over, ended = sorted(await told(redis, instance.org_id, 2), key=lambda run: run.status, reverse=True)
    assert (handed_over.status, [call.output_tokens for call in handed_over.calls]) == ("handed_over", [3])
    assert (ended.status, [call.model_name for call in ended.calls]) == ("failed", [""])
    # Both name the same call, so only the first of them is counted.
    assert (ended.run_id, ended.epoch) == (handed_over.run_id, handed_over.epoch)


async def test_who_asked_with_an_api_key_is_told_by_its_id(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, redis: Redis
) -> None:
    key = publish(worker.control_plane, member.user_id, instance.org_id)
    program = Caller(worker.http, worker.url, member.user_id, instance.org_id, "")
    program.headers = {"X-API-KEY": key}
    assert (await program.chat(instance.instance_id, "hello"))[0] == 200
    (run,) = await told(redis, instance.org_id)
    (record,) = worker.control_plane.api_keys.values()
    assert run.api_key_id == record.key_id
