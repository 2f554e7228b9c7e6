"""What clients were shown is what is stored and what is shown again, whatever fails in between."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from runtime_worker.conversations.base import TurnStart
from runtime_worker.conversations.databases import database_name
from runtime_worker.stream.run_log import events_key
from runtime_worker.turn.claims import CLAIMS
from runtime_worker.turn.lost_runs import LostRuns
from runtime_worker.turn.repeats import CLAIM_SECONDS as KEY_CLAIM_SECONDS
from runtime_worker.turn.repeats import RequestClaim
from runtime_worker.turn.run import RunTable
from runtime_worker.turn.run_locks import RunLocks
from shared.errors import Conflict, StoreUnavailable
from shared.ids import new_id
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder
from tests.fakes.tcp_proxy import tcp_proxy
from tests.integration.runtime_worker.pairs import (
    Halting,
    Pair,
    messages,
    opening_of,
    resumed,
    text_of,
    until,
)
from tests.integration.runtime_worker.worker import eventually, running_worker, worker_settings


@pytest.mark.parametrize("how", ["cut", "frozen"])
async def test_what_was_told_while_redis_was_away_is_told_again_when_it_is_back(
    how: str,
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
    tmp_path: Path,
) -> None:
    builder.script = script = Halting(["one ", "two "], ["three ", "four"])
    async with tcp_proxy(settings.redis_url) as (wire, url):
        wired = worker_settings(
            control_plane=control_plane,
            redis_url=url,
            mongo_url=settings.mongo_url,
            broker_url=settings.broker_url,
            home=tmp_path,
        )
        async with running_worker(wired, control_plane, builder) as worker:
            caller = await worker.sign_in(instance.org_id)
            async with caller.streaming(instance.instance_id, "go") as stream:
                seen = [await opening_of(stream), *await until(stream, "two ")]
                if how == "cut":
                    await wire.cut()
                else:
                    wire.freeze()
                script.go_on.set()
                seen += [event async for event in stream]
            await wire.mend()
            wire.thaw()
            assert text_of(seen) == "one two three four"
            assert await eventually(lambda: resumed_or_none(caller, seen[0].data["run_id"])) == seen
            resumption = await resumed(caller, seen[0].data["run_id"], seen[3].id)
            assert resumption == seen[4:]


async def resumed_or_none(caller: Any, run_id: str) -> Any:
    """Everything that is told of a run; None while sessions cannot be read yet."""
    async with caller.http.get(f"{caller.url}/runs/{run_id}/stream", headers=caller.headers) as response:
        if response.status != 200:
            return None
    return await resumed(caller, run_id)


async def test_what_was_written_and_not_shown_when_its_worker_was_lost_is_shown_by_the_next(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["one "], ["two "])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        seen = [opening, *await until(stream, "one ")]
        # Between the write to Redis and the one to the client.
        pair.one.worker._turning.journal.show = lambda: None  # type: ignore[method-assign]
        run = UUID(opening.data["run_id"])
        redis = pair.one.worker.redis
        before = await redis.xlen(events_key(run))
        script.go_on.set()

        async def is_written() -> bool:
            return await redis.xlen(events_key(run)) > before

        await eventually(is_written)
        await pair.lose(str(run), instance.org_id)
        rest = await resumed(pair.there, str(run), seen[-1].id)
    assert text_of(seen) + text_of(rest) == "one two "
    assert [int(event.id.rpartition(":")[2]) for event in [*seen, *rest]] == list(range(1, len(seen) + len(rest) + 1))
    assert await messages(pair.there, opening.data["conversation_id"]) == [("user", "go"), ("assistant", "one two ")]


async def test_a_run_that_was_taken_over_is_never_said_to_be_cancelled_by_the_worker_that_stops_it(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = Halting(["one "], ["two "])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        run_id = UUID((await opening_of(stream)).data["run_id"])
        run = pair.one.worker.table.find(run_id)
        assert run is not None
        run.lose()
        # What its task says of it between being told to stop and having stopped its engine.
        run.status = "cancelled"
        assert pair.one.worker.table.find(run_id) is run
        record = await pair.one.worker.runs.get(instance.org_id, run_id, user_id=None)
        assert record.status == "running"


async def test_an_end_that_was_told_and_not_stored_is_stored_as_it_was_told(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    events = await pair.here.stream(instance.instance_id, "go")
    run, conversation = events[0].data["run_id"], events[0].data["conversation_id"]
    said = await messages(pair.here, conversation)
    # As if the worker had been killed while MongoDB was away and the end was waiting for it.
    database = pair.one.worker._mongo[database_name(instance.org_id)]
    of_answer = {"run_id": UUID(run), "role": "assistant"}
    await database.messages.delete_one(of_answer)
    await pair.one.worker.redis.zadd(CLAIMS, {f"{instance.org_id}:{run}": 0})

    async def is_stored() -> bool:
        return await database.messages.find_one(of_answer) is not None

    await eventually(is_stored)
    assert (await pair.there.call("GET", f"/runs/{run}"))[1]["status"] == "completed"
    assert await messages(pair.there, conversation) == said
    assert await resumed(pair.there, run) == events


async def test_a_turn_that_was_refused_leaves_nothing_behind(
    pair: Pair, instance: OrchestratorSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pair.one.worker.store
    begin_turn, begun = store.begin_turn, list[TurnStart]()

    async def unanswered(org_id: UUID, turn: TurnStart) -> None:
        """It is stored, and nobody hears of it."""
        await begin_turn(org_id, turn)
        begun.append(turn)
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store, "begin_turn", unanswered)
    status, _ = await pair.here.chat(instance.instance_id, "go")
    assert status == 503
    (turn,) = begun

    async def is_withdrawn() -> bool:
        return (await pair.there.call("GET", f"/runs/{turn.run.run_id}"))[0] == 404

    await eventually(is_withdrawn)
    assert (await pair.there.call("GET", "/conversations"))[1]["items"] == []


async def test_a_turn_that_was_refused_by_a_worker_that_is_lost_is_withdrawn_by_another(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting([], ["never"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        run = (await opening_of(stream)).data["run_id"]
        await pair.one.worker._turning.locks.refuse(UUID(run))
        await pair.lose(run, instance.org_id)

        async def is_withdrawn() -> bool:
            return (await pair.there.call("GET", f"/runs/{run}"))[0] == 404

        await eventually(is_withdrawn)
        assert script.begun == 1
        assert (await pair.there.call("GET", "/conversations"))[1]["items"] == []
        script.go_on.set()


async def test_a_replay_with_a_hole_tells_the_rest_from_the_store(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["one ", "two ", "three "], ["four"])
    script.go_on.set()
    events = await pair.here.stream(instance.instance_id, "go")
    run = events[0].data["run_id"]
    key, redis = events_key(UUID(run)), pair.one.worker.redis
    await eventually(lambda: redis.exists(key))
    rows: Any = await redis.xrange(key)
    told = [block + b"\n\n" for block in b"".join(fields[b"e"] for _, fields in rows).split(b"\n\n")[:-1]]
    await redis.delete(key)
    hole = next(number for number, event in enumerate(told) if b"two " in event)
    await redis.xadd(key, {"e": b"".join(told[:hole])}, id=f"1-{hole}")
    await redis.xadd(key, {"e": b"".join(told[hole + 1 :]), "end": b"1"}, id=f"1-{len(told)}")
    again = await resumed(pair.there, run)
    assert text_of(again) == "one two three four"
    assert again[-1].data["message_id"] == events[-1].data["message_id"]


async def test_nobody_takes_over_before_everybody_could_renew_after_an_outage(redis: Redis) -> None:
    org_id, run_id = new_id(), new_id()
    one, two = RunLocks(redis, "one", RunTable()), LostRuns(redis, "two", lambda _: False)
    await one.acquire(org_id, new_id(), run_id)
    assert await two.take() == []
    await redis.zadd(CLAIMS, {f"{org_id}:{run_id}": 0})
    assert two._looked_at is not None
    two._looked_at -= 60
    assert await two.take() == []
    two._patient_until = 0
    assert [lost.run_id for lost in await two.take()] == [run_id]


async def test_a_worker_that_stood_still_shows_nothing_until_it_knows_what_is_its_own(redis: Redis) -> None:
    locks = RunLocks(redis, "one", RunTable())
    running = asyncio.create_task(locks.run())
    await asyncio.sleep(0)
    assert locks.is_certain()
    locks._renewed_at -= 60
    assert not locks.is_certain()
    await eventually(locks.is_certain)
    running.cancel()


async def test_a_key_whose_worker_was_lost_before_its_run_began_is_soon_free_again(
    pair: Pair, instance: OrchestratorSnapshot
) -> None:
    pair.here.headers["Idempotency-Key"] = "k"
    assert (await pair.here.chat(instance.instance_id, "go"))[0] == 200
    redis = pair.one.worker.redis
    (place,) = [key async for key in redis.scan_iter("run_key:*")]
    assert await redis.ttl(place) > 3600
    # One that is just beginning, and whose worker is killed.
    claim = RequestClaim("run_key:made-up", "x")
    assert await pair.one.worker.repeats.take(claim, new_id()) is None
    assert 0 < await redis.ttl(claim.place) <= KEY_CLAIM_SECONDS


async def test_a_repeated_request_whose_run_is_withdrawn_is_asked_to_try_again(
    pair: Pair, instance: OrchestratorSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.here.headers["Idempotency-Key"] = "k"
    assert (await pair.here.chat(instance.instance_id, "go"))[0] == 200
    redis = pair.one.worker.redis
    (place,) = [key async for key in redis.scan_iter("run_key:*")]
    kept = await redis.get(place)
    assert isinstance(kept, bytes)
    _, _, body_hash = kept.decode().partition(":")
    # Of a run that was stored a moment ago, and whose turn was refused since.
    await redis.set(place, f"{new_id()}:{body_hash}")

    async def has_begun(org_id: UUID, run_id: UUID) -> None: ...

    monkeypatch.setattr(pair.one.worker.repeats, "until_begun", has_begun)
    status, problem = await pair.here.chat(instance.instance_id, "go")
    assert (status, problem["code"]) == (409, Conflict.code)
