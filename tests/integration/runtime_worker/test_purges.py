"""What a worker does about organizations that are purged: it lets go, and removes what was said, of nobody else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from runtime_worker.conversations.databases import database_name, mongo_client
from runtime_worker.engines.base import EventSink, RunRequest
from shared.ids import new_id
from shared.purges import PendingPurge
from shared.snapshots import OrchestratorSnapshot
from shared.usage import STREAM
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually
from tests.isolation.sweep import found_in_mongo, found_in_redis


@pytest.fixture
async def mongo(mongo_url: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    async with mongo_client(mongo_url) as client:
        yield client


@pytest.fixture
async def stranger(control_plane: FakeControlPlane, worker: RunningWorker) -> tuple[Caller, UUID]:
    """Somebody of another organization, and that organization's instance."""
    theirs = control_plane.put(
        instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id()), tier="demand"
    )
    return await worker.sign_in(theirs.org_id), theirs.instance_id


def purge(control_plane: FakeControlPlane, instance: OrchestratorSnapshot) -> None:
    """As the control plane does it: what is purged was deleted before."""
    control_plane.delete(instance.instance_id)
    control_plane.purges[instance.org_id] = PendingPurge(instance.org_id)


async def test_a_purge_leaves_no_document_and_no_key_of_one_and_everything_of_the_others(
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    instance: OrchestratorSnapshot,
    member: Caller,
    stranger: tuple[Caller, UUID],
    mongo_url: str,
    redis: Redis,
) -> None:
    them, their_instance = stranger
    status, mine = await member.chat(instance.instance_id, "Hello")
    assert status == 200, mine
    status, theirs = await them.chat(their_instance, "Hello")
    assert status == 200, theirs
    assert await found_in_redis(redis, [mine["run_id"]])

    purge(control_plane, instance)
    await worker.worker.purges.work()
    assert control_plane.purges[instance.org_id].may_drop
    await worker.worker.purges.work()

    assert control_plane.purges == {}
    assert [report.has_dropped for _, report in control_plane.purge_reports] == [False, True]
    needles = [mine["run_id"], mine["conversation_id"]]
    assert await found_in_mongo(mongo_url, needles, [str(instance.org_id)]) == []
    # What they used, and what is named after the organization, is the control plane's to remove.
    left = {key for key, _ in await found_in_redis(redis, needles) if str(instance.org_id) not in key}
    assert left <= {STREAM}
    status, page = await them.call("GET", "/conversations")
    assert (status, [item["conversation_id"] for item in page["items"]]) == (200, [theirs["conversation_id"]])
    assert await found_in_redis(redis, [theirs["run_id"]])


async def test_a_run_that_goes_on_is_ended_and_writes_nothing_after_the_database_is_gone(
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    builder: ScriptedBuilder,
    instance: OrchestratorSnapshot,
    member: Caller,
    mongo: AsyncMongoClient[dict[str, Any]],
) -> None:
    async def endless(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "Well, ")
        await asyncio.Event().wait()

    builder.script = endless
    async with member.streaming(instance.instance_id, "Hello") as stream:
        await stream.next()
        purge(control_plane, instance)
        await worker.worker.purges.work()
        await worker.worker.purges.work()
    assert control_plane.purges == {}
    assert len(worker.worker.table) == 0
    assert database_name(instance.org_id) not in await mongo.list_database_names()
    # Also for somebody whose grant is still believed.
    assert (await member.call("GET", "/conversations"))[0] == 404
    assert (await member.chat(instance.instance_id, "Hello"))[0] == 404
    assert database_name(instance.org_id) not in await mongo.list_database_names()


async def test_a_worker_that_hears_of_a_purge_does_it_by_itself(
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    instance: OrchestratorSnapshot,
    member: Caller,
    mongo: AsyncMongoClient[dict[str, Any]],
) -> None:
    assert (await member.chat(instance.instance_id, "Hello"))[0] == 200

    purge(control_plane, instance)

    async def is_done() -> bool:
        return not control_plane.purges

    await eventually(is_done, seconds=20)
    assert database_name(instance.org_id) not in await mongo.list_database_names()
