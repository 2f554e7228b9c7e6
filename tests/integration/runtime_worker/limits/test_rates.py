"""How fast, and how much at once: every refusal over HTTP, who it concerns, and what it leaves behind."""

import asyncio

import msgspec
from redis.asyncio import Redis

from shared.ids import new_id
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.limits.asking import asked, gated, limit, used
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually, running_worker

RATES = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


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
