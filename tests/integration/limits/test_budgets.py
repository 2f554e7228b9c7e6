"""What is set aside, used and given back, by the scripts themselves on a real server: several workers, many at once."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import date
from uuid import UUID

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from runtime_worker.conversations.base import TokenUsage
from runtime_worker.turn import reservations
from runtime_worker.turn.reservations import Reservations
from shared.clock import SystemClock
from shared.errors import BudgetSpent, MessagesSpent, StoreUnavailable, TokensSpent, TooManyRuns
from shared.ids import new_id
from shared.limits import Admission, Charge, Counted, OrganizationLimits, WhenUncounted, keys, limiter
from shared.limits.limiter import Limiter, LimitsInvalidator
from shared.limits.use import used_by
from shared.security.api_keys import APIKeyRecord
from shared.security.grants import Grant

WORKERS, REQUESTS = 4, 1_000
MEAN_MICROS = 1_000


class Counter:
    """One worker: its own connections, one organization's limits."""

    def __init__(self, url: str, limits: dict[UUID, OrganizationLimits], counted: dict[UUID, Counted]) -> None:
        self.redis = Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=16, timeout=30))
        self._limits = limits
        self.counted = counted
        self.limiter = Limiter(self.redis, SystemClock(), self._load, counted=self._counted)
        self.reservations = Reservations(self.redis, SystemClock())

    async def _load(self, org_id: UUID) -> OrganizationLimits:
        return self._limits[org_id]

    async def _counted(self, org_id: UUID, on: date) -> Counted:
        return self.counted.get(org_id, Counted())

    async def admit(self, org_id: UUID, user_id: UUID, api_key: APIKeyRecord | None = None) -> Admission:
        grant = Grant(user_id, org_id, "user", False, True, "user", True, "active")
        charge = Charge("chat", new_id())
        first = "session:made-up"
        asked = await self.limiter.ask("session", first, ("p", "u", "o"), str(user_id), org_id, charge)
        return await self.limiter.conclude(asked, grant, api_key)

    async def settle(self, admission: Admission, cost: float, tokens: int = 0) -> None:
        assert admission.org_id is not None
        assert admission.run_id is not None
        usage = TokenUsage(input_tokens=tokens, output_tokens=0, cost=cost)
        await self.reservations.settle(admission.org_id, admission.run_id, usage, admission.budget_id)


@pytest.fixture
def limits() -> dict[UUID, OrganizationLimits]:
    return {}


@pytest.fixture
async def workers(redis_url: str, limits: dict[UUID, OrganizationLimits]) -> AsyncIterator[list[Counter]]:
    counted: dict[UUID, Counted] = {}
    counters = [Counter(redis_url, limits, counted) for _ in range(WORKERS)]
    yield counters
    for counter in counters:
        await counter.redis.aclose()


async def test_a_budget_is_not_exceeded_by_more_than_the_runs_in_flight_and_nobody_is_refused_for_nothing(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A killed worker's reservations are given up within this test's time.
    monkeypatch.setattr(limiter, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(reservations, "LEASE_SECONDS", 4.0)
    # A run is in flight until Redis knows that it ended, also on a machine that is busy with other things.
    monkeypatch.setattr(reservations, "SETTLE_SECONDS", 30.0)
    org_id, user_id, chance = new_id(), new_id(), random.Random(7)
    budget = 600 * MEAN_MICROS
    limits[org_id] = OrganizationLimits(budget_micros=budget)
    in_flight: dict[UUID, int] = {}
    spent, killed, in_flight_at_the_limit = 0, 0, 0
    refused: list[int] = []

    async def use(number: int) -> None:
        nonlocal spent, killed, in_flight_at_the_limit
        worker, cost = workers[number % WORKERS], chance.randint(MEAN_MICROS // 2, MEAN_MICROS * 3 // 2)
        is_killed = number % 20 == 0
        while True:
            admission = await worker.admit(org_id, user_id)
            if admission.refusal is None:
                break
            assert isinstance(admission.refusal, BudgetSpent)
            if (admission.refusal.retry_after_seconds or 0) > 1:
                refused.append(spent + sum(in_flight.values()))
                return
            # What it is told to do: others have set aside the rest, and may use less of it.
            await asyncio.sleep(0.5)
        assert admission.run_id is not None
        if not is_killed:
            worker.reservations.hold(admission.run_id, org_id)
        in_flight[admission.run_id] = 0 if is_killed else cost
        in_flight_at_the_limit = max(in_flight_at_the_limit, len(in_flight))
        await asyncio.sleep(chance.random() / 20)
        if is_killed:
            killed += 1
            in_flight.pop(admission.run_id)
            return
        await worker.settle(admission, cost / 1_000_000)
        spent += in_flight.pop(admission.run_id)

    vouching = [asyncio.create_task(worker.reservations.run()) for worker in workers]
    await asyncio.gather(*(use(number) for number in range(REQUESTS)))
    for task, worker in zip(vouching, workers, strict=True):
        task.cancel()
        await worker.reservations.close()

    used = await used_by(workers[0].redis, org_id, SystemClock().now())
    assert used.spent_micros == spent
    assert spent <= budget + in_flight_at_the_limit * MEAN_MICROS * 3 // 2
    assert sum(1 for committed in refused if committed < budget) <= REQUESTS // 1_000
    assert spent >= budget, "the last of it was to be had as well"
    assert 0 < killed < REQUESTS // 20 + 1
    assert len(refused) > 200


async def test_once_it_is_known_what_runs_cost_they_set_it_aside(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits]
) -> None:
    org_id, user_id = new_id(), new_id()
    limits[org_id] = OrganizationLimits(budget_micros=100 * MEAN_MICROS)
    await workers[0].settle(await workers[0].admit(org_id, user_id), MEAN_MICROS / 1_000_000)

    admitted = await asyncio.gather(*(workers[n % WORKERS].admit(org_id, user_id) for n in range(300)))

    assert sum(1 for admission in admitted if admission.refusal is None) == 99
    refusal = next(admission.refusal for admission in admitted if admission.refusal is not None)
    assert (refusal.code, refusal.retry_after_seconds) == ("RL-0006", 1)


async def test_a_run_is_settled_once_however_often_it_is_told(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits]
) -> None:
    org_id = new_id()
    limits[org_id] = OrganizationLimits(tokens_per_month=1_000)
    admission = await workers[0].admit(org_id, new_id())

    for worker in workers:
        await worker.settle(admission, 0.5, tokens=10)

    used = await used_by(workers[0].redis, org_id, SystemClock().now())
    assert (used.spent_micros, used.tokens_today, used.tokens_this_month, used.running) == (500_000, 10, 10, 0)


async def test_what_does_not_begin_is_given_back(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits]
) -> None:
    org_id = new_id()
    limits[org_id] = OrganizationLimits(concurrent_runs=1, messages_per_day=1)
    admission = await workers[0].admit(org_id, new_id())
    assert isinstance((await workers[1].admit(org_id, new_id())).refusal, TooManyRuns)

    await workers[0].reservations.give_back(admission)

    again = await workers[1].admit(org_id, new_id())
    assert again.refusal is None
    await workers[1].settle(again, 0)
    assert isinstance((await workers[2].admit(org_id, new_id())).refusal, MessagesSpent)


async def test_a_lost_workers_place_is_free_again_and_a_living_ones_is_kept(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(reservations, "LEASE_SECONDS", 5.0)
    org_id = new_id()
    limits[org_id] = OrganizationLimits(concurrent_runs=2)
    kept, _lost = await workers[0].admit(org_id, new_id()), await workers[1].admit(org_id, new_id())
    assert kept.run_id is not None
    workers[0].reservations.hold(kept.run_id, org_id)
    assert isinstance((await workers[2].admit(org_id, new_id())).refusal, TooManyRuns)

    await workers[0].reservations.vouch()
    await asyncio.sleep(1.1)

    assert (await workers[2].admit(org_id, new_id())).refusal is None
    assert await workers[0].redis.zscore(keys.runs(org_id), str(kept.run_id)) is not None


async def test_an_api_key_has_a_budget_of_its_own(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits]
) -> None:
    org_id, user_id = new_id(), new_id()
    limits[org_id] = OrganizationLimits()
    small = APIKeyRecord(new_id(), user_id, None, (), None, budget_micros=1_000)
    other = APIKeyRecord(new_id(), user_id, None, (), None, budget_micros=1_000)
    await workers[0].settle(await workers[0].admit(org_id, user_id, small), 0.001)

    refused = await workers[1].admit(org_id, user_id, small)

    assert isinstance(refused.refusal, BudgetSpent)
    assert "API key" in refused.refusal.detail
    assert (await workers[1].admit(org_id, user_id, other)).refusal is None
    assert (await workers[1].admit(org_id, user_id)).refusal is None


async def test_another_organizations_traffic_uses_nothing_of_ones_own(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits]
) -> None:
    mine, theirs, user_id = new_id(), new_id(), new_id()
    few = OrganizationLimits(chats_per_minute=5, tokens_per_day=10, concurrent_runs=5)
    limits[mine] = limits[theirs] = few
    while (admission := await workers[0].admit(theirs, user_id)).refusal is None:
        await workers[0].settle(admission, 1.0, tokens=5)
    assert isinstance(admission.refusal, TokensSpent)

    assert (await workers[0].admit(mine, user_id)).remaining == 4
    used = await used_by(workers[0].redis, mine, SystemClock().now())
    assert (used.tokens_today, used.spent_micros, used.messages_today) == (0, 0, 1)


async def test_a_change_of_limits_counts_on_the_next_request(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits], redis: Redis
) -> None:
    org_id = new_id()
    limits[org_id] = OrganizationLimits(concurrent_runs=1)
    await workers[0].admit(org_id, new_id())
    assert isinstance((await workers[1].admit(org_id, new_id())).refusal, TooManyRuns)

    limits[org_id] = OrganizationLimits(concurrent_runs=2)
    assert isinstance((await workers[1].admit(org_id, new_id())).refusal, TooManyRuns), "nobody has said so"
    await LimitsInvalidator(redis).tier_changed()

    assert (await workers[1].admit(org_id, new_id())).refusal is None


async def test_what_redis_has_lost_is_counted_from_where_postgresql_stands(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits], redis: Redis
) -> None:
    org_id, neighbour, user_id = new_id(), new_id(), new_id()
    limits[org_id] = limits[neighbour] = OrganizationLimits(budget_micros=10_000)
    running = await workers[0].admit(org_id, user_id)
    await redis.flushall()
    # It ends before anybody asks: it is told to PostgreSQL, and not counted twice.
    await workers[0].settle(running, 0.004, tokens=4)
    workers[0].counted[org_id] = Counted(3, 30, 300, 3_000, 9_999)

    last = await workers[1].admit(org_id, user_id)
    used = await used_by(redis, org_id, SystemClock().now())
    assert (used.messages_today, used.messages_this_month, used.tokens_today, used.tokens_this_month) == (
        4,
        31,
        300,
        3_000,
    )
    assert used.spent_micros == 9_999
    assert isinstance((await workers[2].admit(org_id, user_id)).refusal, BudgetSpent), "what runs use is known as well"
    await workers[1].settle(last, 0.000_001)

    refused = await workers[3].admit(org_id, user_id)

    assert isinstance(refused.refusal, BudgetSpent)
    assert (refused.refusal.retry_after_seconds or 0) >= 1
    assert (await used_by(redis, org_id, SystemClock().now())).spent_micros == 10_000
    assert (await workers[0].admit(neighbour, user_id)).refusal is None
    assert (await used_by(redis, neighbour, SystemClock().now())).spent_micros == 0


async def test_of_many_who_find_nothing_counted_each_worker_asks_once_and_nobody_afterwards(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits]
) -> None:
    org_id, user_id, questions = new_id(), new_id(), 0
    limits[org_id] = OrganizationLimits(messages_per_month=50)
    workers[0].counted[org_id] = Counted(messages_this_month=40)
    load = Counter._counted

    async def counted(org_id: UUID, on: date) -> Counted:
        nonlocal questions
        questions += 1
        await asyncio.sleep(0.05)
        return await load(workers[0], org_id, on)

    for worker in workers:
        worker.limiter.seeds._load = counted
    admitted = await asyncio.gather(*(workers[n % WORKERS].admit(org_id, user_id) for n in range(40)))

    assert sum(1 for admission in admitted if admission.refusal is None) == 10
    assert 1 <= questions <= WORKERS
    questions = 0
    await asyncio.gather(*(worker.admit(org_id, user_id) for worker in workers))
    assert questions == 0


async def test_a_key_has_spent_what_the_key_it_replaces_has_spent(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits], redis: Redis
) -> None:
    org_id, user_id = new_id(), new_id()
    limits[org_id] = OrganizationLimits()
    old = APIKeyRecord(new_id(), user_id, None, (), None, budget_micros=1_000)
    successor = APIKeyRecord(new_id(), user_id, None, (), None, budget_micros=1_000, budget_id=old.key_id)
    await workers[0].settle(await workers[0].admit(org_id, user_id, old), 0.001)

    assert isinstance((await workers[1].admit(org_id, user_id, successor)).refusal, BudgetSpent)
    await redis.flushall()
    workers[0].counted[org_id] = Counted(spent_micros=1_000, spent_by_key={old.key_id: 1_000})
    assert isinstance((await workers[1].admit(org_id, user_id, successor)).refusal, BudgetSpent)
    assert (await workers[1].admit(org_id, user_id)).refusal is None


@pytest.mark.parametrize("when", ["open", "closed"])
async def test_while_nobody_can_tell_what_was_spent_requests_pass_or_not_as_it_was_set(
    workers: list[Counter], limits: dict[UUID, OrganizationLimits], when: WhenUncounted
) -> None:
    org_id, worker = new_id(), workers[0]
    limits[org_id] = OrganizationLimits(messages_per_month=5)

    async def away(org_id: UUID, on: date) -> Counted:
        raise StoreUnavailable

    known, worker.limiter.seeds._load, worker.limiter.when_uncounted = worker.limiter.seeds._load, away, when
    refusal = (await worker.admit(org_id, new_id())).refusal
    worker.limiter.seeds._load = known
    worker.counted[org_id] = Counted(messages_this_month=5)

    assert (refusal is None) if when == "open" else isinstance(refusal, StoreUnavailable)
    assert isinstance((await worker.admit(org_id, new_id())).refusal, MessagesSpent)
