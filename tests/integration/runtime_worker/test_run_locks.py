import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from runtime_worker.stream.run_stream import RunStream
from runtime_worker.turn.claims import CLAIMS, Claim
from runtime_worker.turn.lost_runs import LostRuns
from runtime_worker.turn.run import Run, RunTable
from runtime_worker.turn.run_locks import LOCK_SECONDS, RENEW_SECONDS, RENEWED_AT_ONCE, RunLocks
from shared.errors import ConversationBusy, Draining, WorkerBusy
from shared.ids import new_id

ORG, CONVERSATION = new_id(), new_id()
LOCK = f"run_lock:{ORG}:{CONVERSATION}"


def run_of(run_id: UUID) -> Run:
    return Run(
        run_id=run_id,
        org_id=ORG,
        user_id=new_id(),
        conversation_id=CONVERSATION,
        instance_id=new_id(),
        config_hash="x",
        started_at=datetime.now(UTC),
        stream=RunStream(run_id, is_followed=False),
    )


def lost_runs_of(locks: RunLocks) -> LostRuns:
    """Those that the worker of these locks finds."""
    return LostRuns(locks._redis, locks._worker_id, locks.has)


async def test_a_lock_is_held_once_and_expires_unless_renewed(redis: Redis) -> None:
    one, two = RunLocks(redis, "one", RunTable()), RunLocks(redis, "two", RunTable())
    run = run_of(new_id())
    await one.acquire(ORG, CONVERSATION, run.run_id)
    with pytest.raises(ConversationBusy, match=str(run.run_id)):
        await two.acquire(ORG, CONVERSATION, new_id())
    assert 0 < await redis.ttl(LOCK) <= LOCK_SECONDS
    await redis.expire(LOCK, 1)
    await one._renew_all([run])
    assert await redis.ttl(LOCK) > 1
    assert await one.is_alive(ORG, run.run_id)
    await one.release(ORG, CONVERSATION, run.run_id)
    assert not await one.is_alive(ORG, run.run_id)
    await two.acquire(ORG, CONVERSATION, new_id())


async def test_a_run_that_lost_its_lock_neither_renews_nor_releases_the_next_holders(redis: Redis) -> None:
    locks = RunLocks(redis, "one", RunTable())
    late, holder = run_of(new_id()), new_id()
    await locks.acquire(ORG, CONVERSATION, late.run_id)
    await redis.delete(LOCK)
    await locks.acquire(ORG, CONVERSATION, holder)
    await redis.expire(LOCK, 2)
    await locks._renew_all([late])
    await locks.release(ORG, CONVERSATION, late.run_id)
    assert await redis.get(LOCK) == str(holder).encode()
    assert await redis.ttl(LOCK) <= 2


async def test_a_lock_that_vanished_with_redis_is_taken_again(redis: Redis) -> None:
    locks = RunLocks(redis, "one", RunTable())
    run = run_of(new_id())
    await locks.acquire(ORG, CONVERSATION, run.run_id)
    await redis.flushdb()
    await locks._renew_all([run])
    with pytest.raises(ConversationBusy):
        await locks.acquire(ORG, CONVERSATION, new_id())


async def test_a_run_is_vouched_for_from_its_lock_on_however_long_its_start_takes(redis: Redis) -> None:
    one, two = RunLocks(redis, "one", RunTable()), RunLocks(redis, "two", RunTable())
    run_id = new_id()
    await one.acquire(ORG, CONVERSATION, run_id)
    await _run_out(redis)
    assert await lost_runs_of(one).take() == []
    async with _renewing(one):
        while not await redis.zcount(CLAIMS, 1, "+inf"):
            await asyncio.sleep(0.01)
    assert await lost_runs_of(two).take() == []
    await one.release(ORG, CONVERSATION, run_id)
    assert await redis.zcard(CLAIMS) == 0


async def test_a_run_that_was_taken_over_while_its_turn_was_being_stored_is_not_ours(redis: Redis) -> None:
    one, two = RunLocks(redis, "one", RunTable()), RunLocks(redis, "two", RunTable())
    run = run_of(new_id())
    await one.acquire(ORG, CONVERSATION, run.run_id)
    await _run_out(redis)
    (lost,) = await lost_runs_of(two).take()
    await lost_runs_of(two).forget(lost)
    await one._renew_all(list(one._held.values()))
    assert not await one.is_ours(run)
    await one.surrender(run)
    assert [lost.run_id for lost in await lost_runs_of(two).take()] == [run.run_id]


async def test_a_worker_that_began_while_redis_was_away_lets_everybody_renew_first(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(**_: Any) -> None:
        raise RedisConnectionError

    monkeypatch.setattr("runtime_worker.turn.lost_runs.CLAIM_SECONDS", 0.5)
    one, new = RunLocks(redis, "one", RunTable()), RunLocks(redis, "new", RunTable())
    living, lost = run_of(new_id()), run_of(new_id())
    for run, conversation_id in ((living, CONVERSATION), (lost, new_id())):
        await one.acquire(ORG, conversation_id, run.run_id)
    lost_runs = lost_runs_of(new)
    look = lost_runs._lost
    monkeypatch.setattr(lost_runs, "_lost", away)
    with pytest.raises(RedisConnectionError):
        await lost_runs.take()
    await _run_out(redis)
    monkeypatch.setattr(lost_runs, "_lost", look)
    assert await lost_runs.take() == [], "it has seen nothing of the outage but its end"
    await one._renew_all([living])
    await asyncio.sleep(0.6)
    assert [found.run_id for found in await lost_runs.take()] == [lost.run_id]


async def test_a_lock_that_somebody_else_holds_is_not_vouched_for(redis: Redis) -> None:
    one, two = RunLocks(redis, "one", RunTable()), RunLocks(redis, "two", RunTable())
    run_id = new_id()
    await one.acquire(ORG, CONVERSATION, run_id)
    with pytest.raises(ConversationBusy):
        await two.acquire(ORG, CONVERSATION, new_id())
    await _run_out(redis)
    async with _renewing(two):
        await asyncio.sleep(RENEW_SECONDS * 1.5)
    assert [lost.run_id for lost in await lost_runs_of(two).take()] == [run_id]


@pytest.mark.parametrize("step", ["_renew_all", "_renew_some"])
async def test_what_is_given_back_during_a_renewal_stays_given_back(redis: Redis, step: str) -> None:
    locks = RunLocks(redis, "one", RunTable())
    run_id = new_id()
    await locks.acquire(ORG, CONVERSATION, run_id)
    renewing, may_renew, renew = asyncio.Event(), asyncio.Event(), getattr(locks, step)

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        renewing.set()
        await may_renew.wait()
        return await renew(*args, **kwargs)

    setattr(locks, step, slowly)
    async with _renewing(locks):
        await renewing.wait()
        releasing = asyncio.create_task(locks.release(ORG, CONVERSATION, run_id))
        await asyncio.sleep(0)
        may_renew.set()
        await releasing
    assert not await redis.exists(LOCK)
    assert not await locks.is_alive(ORG, run_id)


async def test_thousands_of_runs_are_renewed_a_part_at_a_time_and_what_ends_meanwhile_stays_ended(redis: Redis) -> None:
    locks = RunLocks(redis, "one", RunTable())
    runs = [(new_id(), new_id()) for _ in range(3 * RENEWED_AT_ONCE)]
    for conversation_id, run_id in runs:
        await locks.acquire(ORG, conversation_id, run_id)
    await _run_out(redis)
    renew, parts = locks._renew_some, 0

    async def with_ends_in_between(claims: Sequence[Claim], *, locks_too: bool) -> set[UUID]:
        nonlocal parts
        parts += 1
        lost = await renew(claims, locks_too=locks_too)
        if parts == 1:
            last = asyncio.create_task(locks.release(ORG, *runs[-1]))
            await asyncio.sleep(0)
            assert not last.done()
        return lost

    locks._renew_some = with_ends_in_between  # type: ignore[method-assign]
    await locks._renew_all(list(locks._held.values()))
    async with asyncio.timeout(10):
        while await redis.zcard(CLAIMS) != len(runs) - 1:
            await asyncio.sleep(0.01)
    assert parts == 3
    assert await redis.zcount(CLAIMS, 1, "+inf") == len(runs) - 1
    assert not await locks.is_alive(ORG, runs[-1][1])


async def test_a_full_table_and_a_draining_one_take_no_run() -> None:
    table = RunTable(max_runs=1)
    with table.admission(), pytest.raises(WorkerBusy), table.admission():
        pass
    draining = asyncio.create_task(table.drain(0, asyncio.Event()))
    await draining
    with pytest.raises(Draining), table.admission():
        pass


async def test_draining_waits_for_a_turn_that_is_just_starting() -> None:
    table = RunTable()
    with table.admission():
        draining = asyncio.create_task(table.drain(5, asyncio.Event()))
        await asyncio.sleep(0)
        run = run_of(new_id())
        table.start(run, _until(run))
    await asyncio.sleep(0)
    assert not draining.done()
    run.cancel()
    await draining


async def _run_out(redis: Redis) -> None:
    """As if the worker had not renewed for as long as a claim lasts."""
    for member in await redis.zrange(CLAIMS, 0, -1):
        await redis.zadd(CLAIMS, {str(member, "ascii"): 0})  # type: ignore[arg-type]  # without scores they are bytes


@asynccontextmanager
async def _renewing(locks: RunLocks) -> AsyncIterator[None]:
    renewing = asyncio.create_task(locks.run())
    try:
        yield
    finally:
        renewing.cancel()


async def _until(run: Run) -> None:
    await run.stop_requested


async def test_a_run_that_is_being_ended_is_not_lost_once_more_however_long_that_takes(redis: Redis) -> None:
    one, two, three = (RunLocks(redis, name, RunTable()) for name in ("one", "two", "three"))
    run_id = new_id()
    await one.acquire(ORG, CONVERSATION, run_id)
    await _run_out(redis)
    (lost,) = await lost_runs_of(two).take()
    async with _renewing(two):
        with two.vouching(lost, CONVERSATION):
            await _run_out(redis)
            assert await lost_runs_of(two).take() == []
            while not await redis.zcount(CLAIMS, 1, "+inf"):
                await asyncio.sleep(0.01)
            assert await lost_runs_of(three).take() == []
            await two.release(ORG, CONVERSATION, run_id, lost.epoch)
            await asyncio.sleep(RENEW_SECONDS * 1.5)
            assert await redis.zcard(CLAIMS) == 0


async def test_a_worker_that_begins_lets_everybody_renew_first(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime_worker.turn.lost_runs.CLAIM_SECONDS", 0.5)
    one, new = RunLocks(redis, "one", RunTable()), RunLocks(redis, "new", RunTable())
    run_id = new_id()
    await one.acquire(ORG, CONVERSATION, run_id)
    await _run_out(redis)
    lost_runs = lost_runs_of(new)
    lost_runs.begin()
    assert await lost_runs.take() == []
    await asyncio.sleep(0.6)
    assert [lost.run_id for lost in await lost_runs.take()] == [run_id]
