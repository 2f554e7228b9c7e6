"""What is set aside, used and given back, by the scripts themselves on a real server: several workers, many at once."""

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from runtime_worker.conversations.base import TokenUsage
from runtime_worker.turn import reservations
from runtime_worker.turn.reservations import Reservations
from shared.clock import SystemClock
from shared.errors import BudgetSpent, MessagesSpent, TokensSpent, TooManyRuns
from shared.ids import new_id
from shared.limits import Admission, Charge, OrganizationLimits, keys, limiter
from shared.limits.limiter import Limiter, LimitsInvalidator
from shared.limits.use import used_by
from shared.security.api_keys import APIKeyRecord
from shared.security.grants import Grant

WORKERS, REQUESTS = 4, 1_000
MEAN_MICROS = 1_000


class Counter:
    """One worker: its own connections, one organization's limits."""

    def __init__(self, url: str, limits: dict[UUID, OrganizationLimits]) -> None:
        self.redis = Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=16, timeout=30))
        self._limits = limits
        self.limiter = Limiter(self.redis, SystemClock(), self._load)
        self.reservations = Reservations(self.redis, SystemClock())

    async def _load(self, org_id: UUID) -> OrganizationLimits:
        return self._limits[org_id]

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
        await self.reservations.settle(admission.org_id, admission.run_id, usage, admission.api_key_id)


@pytest.fixture
def limits() -> dict[UUID, OrganizationLimits]:
    return {}


@pytest.fixture
async def workers(redis_url: str, limits: dict[UUID, OrganizationLimits]) -> AsyncIterator[list[Counter]]:
    counters = [Counter(redis_url, limits) for _ in range(WORKERS)]
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
