"""What an organization may, met at a worker over HTTP: every refusal, who it concerns, and what it leaves behind."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from deploy.local.ports import free_port
from runtime_worker.conversations.base import TokenUsage
from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.turn.request import TurnRequest
from shared.clock import SystemClock
from shared.errors import MessagesSpent, NotFound
from shared.frameworks import Provider
from shared.ids import new_id
from shared.limits import Counted, OrganizationLimits
from shared.limits.limiter import LimitsInvalidator
from shared.limits.use import used_by
from shared.pricing import ModelPrice
from shared.settings import LimitSettings, WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, echo
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually, running_worker

PRICES = (ModelPrice(Provider.OPENAI, "test-model", Decimal(1), Decimal(2)),)
TOKENS = 15
"""What a scripted run uses."""
RATES = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


@pytest.fixture
def instance(control_plane: FakeControlPlane) -> OrchestratorSnapshot:
    """Its model has a price, so that a budget can bound it."""
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id())
    return control_plane.put(snapshot, tier="demand", prices=PRICES)


async def asked(caller: Caller, instance_id: Any, **body: Any) -> tuple[int, Mapping[str, str], Any]:
    """(status, headers, body) of a chat."""
    path = f"{caller.url}/orchestrators/{instance_id}/completion/chat"
    async with caller.http.post(path, headers=caller.headers, json={"message": "hi", **body}) as response:
        return response.status, response.headers, await response.json()


def limit(control_plane: FakeControlPlane, caller: Caller, **limits: int) -> None:
    control_plane.limits[caller.org_id] = OrganizationLimits(**limits)


def gated(builder: ScriptedBuilder) -> asyncio.Event:
    """Runs wait for it before they answer."""
    gate = asyncio.Event()

    async def wait(request: RunRequest, sink: EventSink) -> None:
        await gate.wait()
        await echo(request, sink)

    builder.script = wait
    return gate


async def used(worker: RunningWorker, caller: Caller) -> Any:
    return await used_by(worker.worker.redis, caller.org_id, SystemClock().now())


async def all_settled(worker: RunningWorker, caller: Caller) -> bool:
    return bool((await used(worker, caller)).running == 0)


async def spend(worker: RunningWorker, caller: Caller, *, tokens: int = 0, cost: float = 0.0) -> None:
    """As if a run of the organization had used this."""
    usage = TokenUsage(input_tokens=tokens, output_tokens=0, cost=cost)
    await worker.worker.reservations.settle(caller.org_id, new_id(), usage, None)


async def test_chats_faster_than_the_tier_allows_are_told_when_to_come_back(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, chats_per_minute=2)

    first, second, third = [await asked(member, instance.instance_id) for _ in range(3)]

    assert [first[0], second[0], third[0]] == [200, 200, 429]
    assert [first[1]["RateLimit-Remaining"], second[1]["RateLimit-Remaining"]] == ["1", "0"]
    assert third[2]["code"] == "RL-0001"
    assert {name: third[1][name] for name in RATES[:2]} == {"RateLimit-Limit": "2", "RateLimit-Remaining": "0"}
    assert 1 <= int(third[1]["Retry-After"]) <= 30
    assert third[1]["RateLimit-Reset"] == third[1]["Retry-After"]
    # Looking at what was said is another kind of request.
    assert (await member.call("GET", "/conversations"))[0] == 200
    assert (await used(worker, member)).messages_today == 2


async def test_other_requests_have_a_rate_of_their_own(
    control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, requests_per_minute=1, request_burst=2)

    statuses = [(await member.call("GET", "/conversations"))[0] for _ in range(3)]

    assert statuses == [200, 200, 429]
    assert (await asked(member, instance.instance_id))[0] == 200


async def test_a_member_is_limited_beside_the_organization(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller
) -> None:
    colleague = await worker.sign_in(member.org_id)
    limit(control_plane, member, member_requests_per_minute=1)

    assert [(await member.call("GET", "/conversations"))[0] for _ in range(2)] == [200, 429]
    assert (await colleague.call("GET", "/conversations"))[0] == 200


@pytest.mark.parametrize(
    ("limits", "code", "seconds"),
    [
        ({"messages_per_day": 1}, "RL-0004", 24 * 3600),
        ({"messages_per_month": 1}, "RL-0004", 31 * 24 * 3600),
        ({"tokens_per_day": 10}, "RL-0005", 24 * 3600),
        ({"tokens_per_month": 10}, "RL-0005", 31 * 24 * 3600),
        ({"budget_micros": 500_000}, "RL-0006", 31 * 24 * 3600),
    ],
)
async def test_what_is_used_up_is_refused_until_its_day_or_month_is_over(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    member: Caller,
    instance: OrchestratorSnapshot,
    limits: dict[str, int],
    code: str,
    seconds: int,
) -> None:
    limit(control_plane, member, **limits)
    assert (await asked(member, instance.instance_id))[0] == 200
    await spend(worker, member, tokens=10, cost=0.5)

    status, headers, problem = await asked(member, instance.instance_id)

    assert (status, problem["code"]) == (429, code)
    assert 1 <= int(headers["Retry-After"]) <= seconds
    assert (await used(worker, member)).messages_today == 1
    # Another organization on the same worker has lost nothing.
    neighbour = await worker.sign_in(new_id())
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=neighbour.org_id)
    theirs = control_plane.put(snapshot, tier="demand", prices=PRICES)
    control_plane.limits[neighbour.org_id] = OrganizationLimits(**limits)
    assert (await asked(neighbour, theirs.instance_id))[0] == 200


async def test_runs_at_once_are_limited_and_the_next_has_its_place_when_one_ends(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    member: Caller,
    instance: OrchestratorSnapshot,
) -> None:
    limit(control_plane, member, concurrent_runs=1)
    gate = gated(builder)
    running = asyncio.create_task(asked(member, instance.instance_id))
    await eventually(lambda: len(worker.worker.table) == 1)

    status, headers, problem = await asked(member, instance.instance_id)

    assert (status, problem["code"], headers["Retry-After"]) == (429, "RL-0003", "1")
    assert (await used(worker, member)).running == 1
    gate.set()
    assert (await running)[0] == 200
    assert (await asked(member, instance.instance_id))[0] == 200
    assert (await used(worker, member)).running == 0


async def test_a_request_that_begins_no_run_uses_no_message(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, messages_per_day=1, concurrent_runs=1)

    assert (await asked(member, new_id()))[0] == 404
    assert (await asked(member, instance.instance_id, unknown=1))[0] == 422
    assert (await asked(member, instance.instance_id, conversation_id=str(new_id())))[0] == 404

    assert (await asked(member, instance.instance_id))[0] == 200
    assert (await used(worker, member)).messages_today == 1


async def test_what_is_not_there_is_not_found_also_for_whoever_is_too_fast(
    control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, chats_per_minute=1)
    assert (await asked(member, instance.instance_id))[0] == 200

    assert (await asked(member, new_id()))[0] == 404
    assert (await asked(member, instance.instance_id, conversation_id=str(new_id())))[0] == 429


async def test_a_strangers_attempts_use_nothing_of_the_organization(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, chats_per_minute=1, messages_per_day=1)
    stranger = await worker.sign_in(member.org_id, role=None)
    dead = Caller(member.http, worker.url, member.user_id, member.org_id, "made.up.token")

    assert [(await asked(stranger, instance.instance_id))[0] for _ in range(3)] == [404, 404, 404]
    assert (await asked(dead, instance.instance_id))[0] == 401

    assert (await asked(member, instance.instance_id))[0] == 200


async def test_an_edited_tier_counts_at_once_and_builds_nothing(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    member: Caller,
    instance: OrchestratorSnapshot,
) -> None:
    limit(control_plane, member, messages_per_day=1)
    assert (await asked(member, instance.instance_id))[0] == 200
    assert (await asked(member, instance.instance_id))[0] == 429
    builds = len(builder.builds)

    limit(control_plane, member, messages_per_day=2)
    await LimitsInvalidator(worker.worker.redis).tier_changed()

    assert (await asked(member, instance.instance_id))[0] == 200
    assert len(builder.builds) == builds


async def test_a_run_costs_one_question_to_redis_before_it_begins(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot
) -> None:
    assert (await asked(member, instance.instance_id))[0] == 200
    scripts = await _script_calls(worker.worker.redis)

    assert (await member.call("GET", "/conversations"))[0] == 200

    assert await _script_calls(worker.worker.redis) - scripts <= 2, "who calls and what it uses; a renewal may be by"


async def _script_calls(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


async def test_of_many_at_once_as_many_are_answered_as_there_are_messages(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, messages_per_day=60)

    answers = await asyncio.gather(*(asked(member, instance.instance_id) for _ in range(90)))

    assert sorted({answer[0] for answer in answers}) == [200, 429]
    assert sum(1 for answer in answers if answer[0] == 200) == 60
    # What could not be settled at once, on a machine that is busy, is settled within a moment.
    await eventually(partial(all_settled, worker, member))
    assert (await used(worker, member)).messages_today == 60


async def test_two_workers_let_in_no_more_than_there_are_tokens_for(
    worker: RunningWorker,
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    member: Caller,
    instance: OrchestratorSnapshot,
) -> None:
    port = free_port()
    beside = msgspec.structs.replace(settings, port=port, public_url=f"http://127.0.0.1:{port}")
    limit(control_plane, member, tokens_per_day=20 * TOKENS)
    # Once it is known what a run uses, each sets as much aside.
    assert (await asked(member, instance.instance_id))[0] == 200
    async with running_worker(beside, control_plane, ScriptedBuilder()) as second:
        there = Caller(second.http, second.url, member.user_id, member.org_id, "")
        there.headers = member.headers

        answers = await asyncio.gather(
            *(asked((member, there)[number % 2], instance.instance_id) for number in range(60))
        )

        assert sum(1 for answer in answers if answer[0] == 200) == 19
        assert {answer[2]["code"] for answer in answers if answer[0] != 200} == {"RL-0005"}
        await eventually(partial(all_settled, worker, member))
        assert (await used(worker, member)).tokens_today == 20 * TOKENS


async def test_a_turn_of_somebody_without_a_session_is_limited_as_well(
    worker: RunningWorker, control_plane: FakeControlPlane, instance: OrchestratorSnapshot
) -> None:
    control_plane.limits[instance.org_id] = OrganizationLimits(messages_per_day=1, concurrent_runs=1)
    guest = control_plane.admit(new_id(), instance.org_id)
    request = TurnRequest(
        org_id=instance.org_id,
        instance_id=instance.instance_id,
        message="hi",
        conversation_id=None,
        resource_id=None,
        is_followed=False,
    )
    with pytest.raises(NotFound):
        await worker.worker.turns.start(guest, msgspec.structs.replace(request, conversation_id=new_id()))

    run = await worker.worker.turns.start(guest, request)
    await run.wait()

    with pytest.raises(MessagesSpent):
        await worker.worker.turns.start(guest, request)


async def test_a_full_worker_says_so_and_when_to_come_back(
    settings: WorkerSettings, control_plane: FakeControlPlane, builder: ScriptedBuilder, instance: OrchestratorSnapshot
) -> None:
    serving = msgspec.structs.replace(settings.serving, max_concurrent_runs=1)
    small = msgspec.structs.replace(settings, serving=serving)
    async with running_worker(small, control_plane, builder) as worker:
        member = await worker.sign_in(instance.org_id)
        gate = gated(builder)
        running = asyncio.create_task(asked(member, instance.instance_id))
        await eventually(lambda: len(worker.worker.table) == 1)

        status, headers, problem = await asked(member, instance.instance_id)

        assert (status, problem["code"]) == (503, "SY-0007")
        assert int(headers["Retry-After"]) >= 1
        gate.set()
        assert (await running)[0] == 200
        assert (await used(worker, member)).messages_today == 1


@pytest.mark.parametrize("when", ["open", "closed"])
async def test_while_redis_takes_no_writes_requests_pass_or_not_as_it_was_set(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    instance: OrchestratorSnapshot,
    when: Any,
) -> None:
    chosen = msgspec.structs.replace(settings, limits=LimitSettings(when_uncounted=when))
    async with running_worker(chosen, control_plane, builder) as worker:
        member = await worker.sign_in(instance.org_id)
        limit(control_plane, member, requests_per_minute=100)
        assert (await member.call("GET", "/conversations"))[0] == 200
        await worker.worker.redis.config_set("min-replicas-to-write", 1)
        try:
            status, body = await member.call("GET", "/conversations")
            ready, health = await worker.ready()
        finally:
            await worker.worker.redis.config_set("min-replicas-to-write", 0)

        assert (status, body.get("code")) == ((200, None) if when == "open" else (503, "DB-0001"))
        assert (health["dependencies"]["limits"], health["limits_when_uncounted"]) == ("down", when)
        assert ready == (200 if when == "open" else 503)
        assert (await member.call("GET", "/conversations"))[0] == 200


async def test_an_organization_that_is_over_its_budget_is_refused_also_when_redis_has_lost_everything(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, budget_micros=500_000)
    assert (await asked(member, instance.instance_id))[0] == 200
    await worker.worker.redis.flushall()
    control_plane.counted[member.org_id] = Counted(1, 1, TOKENS, TOKENS, 500_000)
    questions = control_plane.questions_what_is_counted
    again = await worker.sign_in(member.org_id)

    status, _, problem = await asked(again, instance.instance_id)

    assert (status, problem["code"]) == (429, "RL-0006")
    assert (await asked(again, instance.instance_id))[0] == 429
    assert control_plane.questions_what_is_counted == questions + 1
    # Another organization on the same worker has spent nothing.
    neighbour = await worker.sign_in(new_id())
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=neighbour.org_id)
    theirs = control_plane.put(snapshot, tier="demand", prices=PRICES)
    control_plane.limits[neighbour.org_id] = OrganizationLimits(budget_micros=500_000)
    assert (await asked(neighbour, theirs.instance_id))[0] == 200


async def test_where_a_budget_holds_a_model_without_a_price_is_not_asked(
    worker: RunningWorker, control_plane: FakeControlPlane, builder: ScriptedBuilder
) -> None:
    priced = llm_config_snapshot("http://model.test/v1")
    unpriced = llm_config_snapshot("http://model.test/v1", model_name="nobody-knows")
    snapshot = instance_snapshot(priced, unpriced, fallback_llm_config_id=str(unpriced.id), org_id=new_id())
    instance = control_plane.put(snapshot, tier="demand", prices=PRICES)
    member = await worker.sign_in(instance.org_id)
    assert (await asked(member, instance.instance_id))[0] == 200
    limit(control_plane, member, budget_micros=500_000)
    await LimitsInvalidator(worker.worker.redis).organization_changed(member.org_id)

    status, _, problem = await asked(member, instance.instance_id)

    assert (status, problem["code"]) == (409, "RE-0005")
    assert "openai/nobody-knows" in problem["detail"]
    assert "test-model" not in problem["detail"]
    assert (await used(worker, member)).messages_today == 1, "nothing is left set aside"
    assert (await used(worker, member)).running == 0
    free = ModelPrice(Provider.OPENAI, "nobody-knows", Decimal(0), Decimal(0))
    control_plane.put(instance, prices=(*PRICES, free))
    await worker.worker.reconciler.look()
    assert (await asked(member, instance.instance_id))[0] == 200
