"""Limits while Redis takes no writes, and after it has lost what was counted."""

from typing import Any

import msgspec
import pytest

from shared.ids import new_id
from shared.limits import Counted, OrganizationLimits
from shared.settings import LimitSettings, WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.limits.asking import PRICES, TOKENS, asked, limit
from tests.integration.runtime_worker.worker import Caller, RunningWorker, running_worker


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
