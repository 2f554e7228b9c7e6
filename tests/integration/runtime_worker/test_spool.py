"""What clients are shown while Redis is away is stored all the same, and a worker that is cut off shows nothing that
another one does not know of."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest
from pymongo.errors import DocumentTooLarge

from runtime_worker.conversations.databases import database_name, mongo_client
from runtime_worker.conversations.mongo import MongoConversationStore
from runtime_worker.conversations.spooled import COLLECTION, MongoEventSpool
from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.stream.spool import FORGET_SECONDS, RunEpoch, Spooled, behind
from runtime_worker.stream.sse import EventEncoder
from shared.errors import NotFound, WorkerLost
from shared.ids import new_id
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.fakes.tcp_proxy import TcpProxy, tcp_proxy
from tests.integration.runtime_worker.pairs import (
    Halting,
    Pair,
    messages,
    opening_of,
    pair_of,
    resumed,
    text_of,
    until,
)
from tests.integration.runtime_worker.worker import Event, Stream, eventually, worker_settings


class Wires:
    """A pair whose first worker has its stores behind wires of its own."""

    def __init__(self, pair: Pair, redis: TcpProxy, mongo: TcpProxy) -> None:
        self.pair, self.redis, self.mongo = pair, redis, mongo

    async def cut_off(self) -> None:
        """Cut both once Redis has all that was told until now; the worker knows when this returns."""
        journal = self.pair.one.worker._turning.journal
        await eventually(lambda: journal.is_confirmed)
        await self.mongo.cut()
        await self.redis.cut()
        await eventually(lambda: not journal.is_connected)


@pytest.fixture
async def wired(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
    tmp_path: Path,
) -> AsyncIterator[Wires]:
    async with AsyncExitStack() as stack:
        redis, redis_url = await stack.enter_async_context(tcp_proxy(settings.redis_url))
        mongo, mongo_url = await stack.enter_async_context(tcp_proxy(settings.mongo_url))
        of_one = worker_settings(
            control_plane=control_plane,
            redis_url=redis_url,
            mongo_url=mongo_url,
            broker_url=settings.broker_url,
            home=tmp_path / "one",
        )
        pair = pair_of(settings, control_plane, instance, builder, tmp_path, of_one=of_one)
        yield Wires(await stack.enter_async_context(pair), redis, mongo)
        # A worker that cannot reach its stores takes its time to stop.
        redis.thaw()
        await redis.mend()
        await mongo.mend()


class Talking:
    """Says a word, waits to be told to go on, and then says one after the other for as long as it is let."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, request: RunRequest, sink: EventSink) -> None:
        await say(sink, "one ")
        await self.go_on.wait()
        for number in itertools.count(2):
            await say(sink, f"{number} ")
            await asyncio.sleep(0.03)


async def until_it_breaks(stream: Stream) -> list[Event]:
    events: list[Event] = []
    try:
        while event := await stream.next():
            events.append(event)
    except aiohttp.ClientError:
        return events
    raise AssertionError(f"the stream ended as if that were all: {events}")


@pytest.mark.parametrize("how", ["cut", "frozen"])
async def test_what_a_worker_that_alone_is_cut_off_shows_is_what_the_next_one_stores(
    how: str, wired: Wires, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    pair = wired.pair
    builder.script = script = Talking()
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        seen = [opening := await opening_of(stream), *await until(stream, "one ")]
        if how == "cut":
            await wired.redis.cut()
        else:
            wired.redis.freeze()
        script.go_on.set()
        seen += await until_it_breaks(stream)
    run, conversation = opening.data["run_id"], opening.data["conversation_id"]
    assert text_of(seen).startswith("one 2 3 4 ")
    rest = await resumed(pair.there, run, seen[-1].id)
    assert rest[-1].data["code"] == WorkerLost.code
    shown = text_of(seen) + text_of(rest)
    assert await messages(pair.there, conversation) == [("user", "go"), ("assistant", shown)]
    assert await resumed(pair.there, run) == [*seen, *rest]
    spooled = pair.two.worker._mongo[database_name(instance.org_id)][COLLECTION]

    async def is_empty() -> bool:
        return await spooled.count_documents({"told": {"$exists": True}}) == 0

    await eventually(is_empty)


async def test_a_worker_that_reaches_no_store_shows_nothing_that_the_next_one_does_not_know(
    wired: Wires, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    pair = wired.pair
    builder.script = script = Halting(["one "], ["two "])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        seen = [opening := await opening_of(stream), *await until(stream, "one ")]
        await wired.cut_off()
        script.go_on.set()
        run, conversation = opening.data["run_id"], opening.data["conversation_id"]
        rest = await resumed(pair.there, run, seen[-1].id)
        await wired.redis.mend()
        await wired.mongo.mend()
        assert await until_it_breaks(stream) == []
    assert rest[-1].data["code"] == WorkerLost.code
    assert await messages(pair.there, conversation) == [("user", "go"), ("assistant", "one ")]


@pytest.mark.parametrize("first", ["redis", "mongo"])
async def test_what_no_store_could_take_is_shown_when_one_of_them_is_back(
    first: str, wired: Wires, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    pair = wired.pair
    builder.script = script = Halting(["one "], ["two ", "three "])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        seen = [opening := await opening_of(stream), *await until(stream, "one ")]
        await wired.cut_off()
        script.go_on.set()
        coming = asyncio.create_task(stream.next())
        assert not (await asyncio.wait({coming}, timeout=0.5))[0]
        await (wired.redis if first == "redis" else wired.mongo).mend()
        event = await coming
        assert event is not None
        seen.append(event)
        seen += await until(stream, "three ") if event.data["content"] != "three " else []
        await wired.redis.mend()
        await wired.mongo.mend()
        seen += [event async for event in stream]
    assert text_of(seen) == "one two three "
    assert await eventually(lambda: resumed(pair.there, opening.data["run_id"])) == seen


async def test_the_spool_is_emptied_when_redis_has_it_all(
    wired: Wires, settings: WorkerSettings, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    pair = wired.pair
    spooled = pair.two.worker._mongo[database_name(instance.org_id)][COLLECTION]
    builder.script = script = Halting(["one "], ["two "])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        run = (await opening_of(stream)).data["run_id"]
        await until(stream, "one ")
        assert await spooled.count_documents({}) == 0
        await wired.redis.cut()
        await eventually(lambda: not pair.one.worker._turning.journal.is_connected)
        script.go_on.set()
        await until(stream, "two ")
        assert [row["_id"] async for row in spooled.find({"told": {"$exists": True}})] == [UUID(run)]
        await wired.redis.mend()
        assert [event async for event in stream][-1].data["status"] == "completed"

    async def is_empty() -> bool:
        return await spooled.count_documents({"told": {"$exists": True}}) == 0

    await eventually(is_empty, 2 * FORGET_SECONDS)
    index = (await spooled.index_information())["expires_at_1"]
    assert index["expireAfterSeconds"] == 0


async def test_what_is_spooled_is_its_organizations_and_its_newest_epochs(settings: WorkerSettings) -> None:
    async with mongo_client(settings.mongo_url) as client:
        store = MongoConversationStore(client)
        spool = MongoEventSpool(store.databases)
        ours, theirs, run_id = new_id(), new_id(), new_id()
        first, second, other = RunEpoch(run_id, 1), RunEpoch(run_id, 2), RunEpoch(new_id(), 1)
        event = EventEncoder(run_id).message(1, "one ", "node")
        assert await spool.keep(ours, {first: [Spooled(event)], other: [Spooled(event)]}) == set()
        assert await spool.close(theirs, second) == []
        assert await spool.close(ours, second) == [Spooled(event)]
        assert await spool.keep(ours, {first: [Spooled(event)], other: [Spooled(event)]}) == {run_id}
        await spool.forget(ours, [first])
        assert await spool.close(ours, second) == [Spooled(event)]
        await spool.forget(ours, [second])
        assert await spool.close(ours, second) == []
        store.shut(ours)
        with pytest.raises(NotFound):
            await spool.keep(ours, {second: [Spooled(event)]})
        await store.drop(ours)
        await store.drop(theirs)


def test_what_was_spooled_twice_is_told_once_and_up_to_the_first_gap() -> None:
    encoder = EventEncoder(new_id())
    one, two, three, five = (encoder.message(seq, str(seq), "node") for seq in (1, 2, 3, 5))
    spooled = [Spooled(one + two), Spooled(two + three), Spooled(five, is_last=True)]
    assert [[event.raw for event in entry.events] for entry in behind(spooled, 1)] == [[two], [three]]
    assert not any(entry.is_last for entry in behind(spooled, 1))
    assert [entry.is_last for entry in behind([*spooled, Spooled(encoder.message(4, "4", "node"))], 3)] == [False, True]


async def test_what_cannot_be_spooled_breaks_off_its_own_streams_only(
    wired: Wires, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    pair = wired.pair
    builder.script = script = Halting(["one "], ["two "])
    spool = pair.one.worker._turning.spooler._spool
    keep = spool.keep

    async def too_much(org_id: UUID, events: Mapping[RunEpoch, Sequence[Spooled]]) -> set[UUID]:
        if org_id == instance.org_id:
            raise DocumentTooLarge("17 MB")
        return await keep(org_id, events)

    spool.keep = too_much  # type: ignore[method-assign]
    other = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id())
    control_plane.put(other, tier="demand")
    stranger = await pair.one.sign_in(other.org_id)
    async with (
        pair.here.streaming(instance.instance_id, "go") as ours,
        stranger.streaming(other.instance_id, "go") as theirs,
    ):
        run = (await opening_of(ours)).data["run_id"]
        await until(ours, "one ")
        await until(theirs, "one ")
        await wired.redis.cut()
        await eventually(lambda: not pair.one.worker._turning.journal.is_connected)
        script.go_on.set()
        assert await until_it_breaks(ours) == []
        assert [event async for event in theirs][-1].data["status"] == "completed"
        await wired.redis.mend()
    assert text_of(await eventually(lambda: resumed(pair.there, run))) == "one two "
