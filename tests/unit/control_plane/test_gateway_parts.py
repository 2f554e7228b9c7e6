"""The parts of the gateway that need no network."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.types import HTTPScope, Message
from msgspec.structs import replace
from redis.exceptions import ConnectionError as RedisConnectionError

from control_plane.gateway.affinity import affinity_key
from control_plane.gateway.directory import (
    AHEAD_SECONDS,
    MAX_AGE_SECONDS,
    MAX_STALE_SECONDS,
    SUSPECT_SECONDS,
    WorkerDirectory,
)
from control_plane.gateway.headers import ForwardedHeaders
from control_plane.gateway.proxy import MAX_BODY_BYTES, read_body
from control_plane.gateway.sse import MAX_HELD_BYTES, WholeEvents
from shared.errors import BodyTooLarge, NoLiveWorker, StoreUnavailable
from shared.placement import EASY_RUNS
from shared.workers import WorkerRecord, WorkerRegistry
from tests.fakes.clock import ManualClock


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/api/orgs/o/orchestrators/i/completion/stream", b"", "i"),
        ("/api/orgs/o/orchestrators/i/completion/chat", b'{"instance_id":"other"}', "i"),
        ("/api/orgs/o/completion/chat", b'{"message":"x","instance_id":"i"}', "i"),
        ("/api/orgs/o/completion/chat", b'{"instance_id":7}', "o"),
        ("/api/orgs/o/completion/chat", b"not json", "o"),
        ("/api/orgs/o/completion/chat", b"\xff\xfe", "o"),
        ("/api/orgs/o/runs/r/stream", b"", "r"),
        ("/api/orgs/o/conversations/c/messages", b"", "c"),
        ("/api/orgs/o/conversations", b"", "o"),
    ],
)
def test_requests_are_placed_by_what_they_are_about(path: str, body: bytes, key: str) -> None:
    assert affinity_key(path, body) == key


@given(st.lists(st.binary(min_size=1, max_size=8).map(lambda b: b.replace(b"\x00", b"\n")), max_size=30))
def test_no_byte_of_a_stream_is_lost_or_reordered_and_no_half_event_shown(chunks: list[bytes]) -> None:
    events = WholeEvents()
    shown = b"".join(events.feed(chunk) for chunk in chunks)

    assert shown + events.rest() == b"".join(chunks)
    assert not shown or shown.endswith(b"\n\n")


def test_an_endless_event_is_not_kept_in_memory() -> None:
    events = WholeEvents()
    chunk = b"x" * 65536
    shown = sum(len(events.feed(chunk)) for _ in range(64))
    assert 64 * len(chunk) - shown <= MAX_HELD_BYTES


def scope(headers: list[tuple[bytes, bytes]], client: str = "10.0.0.9", **more: Any) -> HTTPScope:
    return cast("HTTPScope", {"headers": headers, "client": (client, 1), "scheme": "http", **more})


def forwarded(trusted: tuple[str, ...], headers: list[tuple[bytes, bytes]], client: str) -> dict[bytes, bytes]:
    return dict(ForwardedHeaders(trusted).of_request(scope(headers, client)))


def test_only_a_trusted_proxy_may_say_who_it_forwards_for() -> None:
    headers = [(b"X-Forwarded-For", b"6.6.6.6"), (b"X-Forwarded-Proto", b"https"), (b"Accept", b"*/*")]

    believed = forwarded(("10.0.0.0/8",), headers, "10.0.0.9")
    doubted = forwarded(("10.0.0.0/8",), headers, "192.0.2.1")

    assert (believed[b"x-forwarded-for"], believed[b"x-forwarded-proto"]) == (b"6.6.6.6, 10.0.0.9", b"https")
    assert (doubted[b"x-forwarded-for"], doubted[b"x-forwarded-proto"]) == (b"192.0.2.1", b"http")
    assert believed[b"accept"] == doubted[b"accept"] == b"*/*"


async def test_a_body_of_unknown_length_is_counted_while_it_comes() -> None:
    async def receive() -> Message:
        return cast("Message", {"type": "http.request", "body": b"x" * 65536, "more_body": True})

    with pytest.raises(BodyTooLarge):
        await read_body(scope([]), receive)  # type: ignore[arg-type]  # only what an HTTP server sends
    declared = [(b"content-length", str(MAX_BODY_BYTES + 1).encode())]
    with pytest.raises(BodyTooLarge):
        await read_body(scope(declared), receive)  # type: ignore[arg-type]  # as above


class Registry:
    """Counts reads, and fails when told to."""

    def __init__(self, clock: ManualClock, *worker_ids: str) -> None:
        self.records = [WorkerRecord(w, f"http://{w}", "0", clock.now()) for w in worker_ids]
        self.reads = 0
        self.is_away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def live(self) -> list[WorkerRecord]:
        self.reads += 1
        await self.answers.wait()
        if self.is_away:
            raise RedisConnectionError
        return self.records


def directory(registry: Registry, clock: ManualClock) -> WorkerDirectory:
    return WorkerDirectory(cast("WorkerRegistry", registry), clock)


async def names(workers: WorkerDirectory, key: str = "k") -> list[str]:
    return [w.worker_id for w in await workers.candidates(key)]


async def test_the_registry_is_read_a_few_times_a_second_at_most(clock: ManualClock) -> None:
    registry = Registry(clock, "a", "b")
    workers = directory(registry, clock)
    for _ in range(5):
        await workers.candidates("k")
    assert registry.reads == 1
    clock.advance(MAX_AGE_SECONDS)
    await workers.candidates("k")
    assert registry.reads == 2


async def test_a_request_does_not_wait_for_the_registry_while_the_list_is_young(clock: ManualClock) -> None:
    registry = Registry(clock, "a", "b")
    workers = directory(registry, clock)
    await names(workers)
    registry.answers.clear()
    registry.records = registry.records[:1]
    clock.advance(AHEAD_SECONDS)
    # Each of them would wait for ever.
    assert [len(await names(workers)) for _ in range(3)] == [2, 2, 2]
    await asyncio.sleep(0)
    assert registry.reads == 2
    registry.answers.set()
    await asyncio.sleep(0.01)
    assert await names(workers) == ["a"]
    await workers.close()


async def test_while_redis_is_away_the_last_known_workers_serve_but_not_for_ever(clock: ManualClock) -> None:
    registry = Registry(clock, "a", "b")
    workers = directory(registry, clock)
    known = await names(workers)
    registry.is_away = True
    clock.advance(MAX_STALE_SECONDS - 1)
    assert await names(workers) == known
    clock.advance(2)
    with pytest.raises(StoreUnavailable):
        await names(workers)
    with pytest.raises(StoreUnavailable):
        await names(workers)
    registry.is_away = False
    clock.advance(MAX_AGE_SECONDS)
    assert await names(workers) == known


async def test_a_suspected_worker_is_tried_last_until_it_proves_itself_or_time_passes(clock: ManualClock) -> None:
    workers = directory(Registry(clock, "a", "b", "c"), clock)
    first, *others = await names(workers)
    workers.suspect(first)
    assert await names(workers) == [*others, first]
    workers.trust(first)
    assert await names(workers) == [first, *others]
    workers.suspect(first)
    clock.advance(SUSPECT_SECONDS + 0.1)
    assert await names(workers) == [first, *others]


@pytest.mark.parametrize("is_known", [True, False], ids=["after it was read once", "from the beginning"])
async def test_while_redis_hangs_all_requests_wait_for_one_attempt_together(clock: ManualClock, is_known: bool) -> None:
    registry = Registry(clock, "a", "b")
    workers = directory(registry, clock)
    known = await names(workers) if is_known else None
    clock.advance(MAX_AGE_SECONDS)
    read_before, registry.is_away = registry.reads, True
    registry.answers.clear()
    waiting = [asyncio.create_task(names(workers)) for _ in range(5)]
    await asyncio.sleep(0)
    # It takes longer to find out that Redis is away than an answer of it is believed.
    clock.advance(2 * MAX_AGE_SECONDS)
    registry.answers.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert registry.reads == read_before + 1
    if is_known:
        assert outcomes == [known] * 5
    else:
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}


async def test_an_overloaded_owner_passes_to_the_next_until_it_has_less_to_do(clock: ManualClock) -> None:
    registry = Registry(clock, "a", "b", "c")
    first, second, third = await names(directory(registry, clock))

    def busy(**active: int) -> list[WorkerRecord]:
        return [replace(r, capacity=1000, active_runs=active.get(r.worker_id, 0)) for r in registry.records]

    registry.records = busy(**{first: EASY_RUNS - 1})
    assert await names(directory(registry, clock)) == [first, second, third]
    registry.records = busy(**{first: 3 * EASY_RUNS, second: EASY_RUNS, third: EASY_RUNS})
    assert await names(directory(registry, clock)) == [second, third, first]
    registry.records = busy(**dict.fromkeys((first, second, third), 3 * EASY_RUNS))
    assert await names(directory(registry, clock)) == [first, second, third]


async def test_runs_begun_since_the_registry_was_read_count_too(clock: ManualClock) -> None:
    registry = Registry(clock, "a", "b")
    registry.records = [replace(r, capacity=1000) for r in registry.records]
    workers = directory(registry, clock)
    first, second = await names(workers)
    for _ in range(EASY_RUNS):
        workers.sent(first)
    assert await names(workers) == [second, first]
    clock.advance(MAX_AGE_SECONDS)
    assert await names(workers) == [first, second]


async def test_a_worker_that_joins_or_leaves_gets_nothing_while_another_serves(clock: ManualClock) -> None:
    registry = Registry(clock, "a", "b", "c")
    a, b, c = registry.records
    registry.records = [replace(a, joining=True), replace(b, draining=True), c]
    assert await names(directory(registry, clock)) == ["c"]
    registry.records = [replace(a, joining=True), replace(b, draining=True)]
    assert await names(directory(registry, clock)) == ["a"]


async def test_no_worker_is_an_error_of_its_own(clock: ManualClock) -> None:
    with pytest.raises(NoLiveWorker):
        await names(directory(Registry(clock), clock))
