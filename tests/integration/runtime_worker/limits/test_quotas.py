"""Messages, tokens and money of a day or a month: what is spent is refused over HTTP, and nothing else is."""

import asyncio
from decimal import Decimal
from functools import partial

import msgspec
import pytest

from deploy.local.ports import free_port
from runtime_worker.turn.request import TurnRequest
from shared.errors import MessagesSpent, NotFound
from shared.frameworks import Provider
from shared.ids import new_id
from shared.limits import OrganizationLimits
from shared.limits.limiter import LimitsInvalidator
from shared.pricing import ModelPrice
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.limits.asking import PRICES, TOKENS, all_settled, asked, limit, spend, used
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually, running_worker


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


async def test_a_request_that_begins_no_run_uses_no_message(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    limit(control_plane, member, messages_per_day=1, concurrent_runs=1)

    assert (await asked(member, new_id()))[0] == 404
    assert (await asked(member, instance.instance_id, unknown=1))[0] == 422
    assert (await asked(member, instance.instance_id, conversation_id=str(new_id())))[0] == 404

    assert (await asked(member, instance.instance_id))[0] == 200
    assert (await used(worker, member)).messages_today == 1


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
