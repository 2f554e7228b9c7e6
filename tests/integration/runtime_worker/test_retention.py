"""What was said is forgotten when the organization's setting says so, by MongoDB itself, and nobody else's."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pymongo import AsyncMongoClient

from runtime_worker.conversations.databases import database_name, mongo_client
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually

DAY = 24 * 3600


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


async def grow_old(mongo: AsyncMongoClient[dict[str, Any]], org_id: UUID, conversation_id: str, *, days: int) -> None:
    """Let a conversation and all that belongs to it have happened some days ago."""
    then, database = datetime.now(UTC) - timedelta(days=days), mongo[database_name(org_id)]
    of_conversation = {"conversation_id": UUID(conversation_id)}
    await database.conversations.update_one({"_id": UUID(conversation_id)}, {"$set": {"updated_at": then}})
    await database.messages.update_many(of_conversation, {"$set": {"created_at": then}})
    await database.runs.update_many(of_conversation, {"$set": {"started_at": then}})


async def kept(mongo: AsyncMongoClient[dict[str, Any]], org_id: UUID) -> list[int]:
    """How many conversations, messages and runs there are."""
    database = mongo[database_name(org_id)]
    conversations, messages, runs = [
        await database[name].count_documents({}) for name in ("conversations", "messages", "runs")
    ]
    with_answers = await database.messages.count_documents({"ends": {"$exists": True}})
    return [conversations, messages, runs + with_answers]


async def limits(mongo: AsyncMongoClient[dict[str, Any]], org_id: UUID) -> set[int | None]:
    database = mongo[database_name(org_id)]
    indexes = [await database[name].index_information() for name in ("conversations", "messages", "runs")]
    return {index.get("retention", {}).get("expireAfterSeconds") for index in indexes}


async def test_what_is_older_than_the_setting_goes_and_the_rest_stays(
    mongo: AsyncMongoClient[dict[str, Any]],
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    member: Caller,
    instance: OrchestratorSnapshot,
    stranger: tuple[Caller, UUID],
) -> None:
    _, old = await member.chat(instance.instance_id, "old")
    _, young = await member.chat(instance.instance_id, "young")
    caller, their_instance = stranger
    _, theirs = await caller.chat(their_instance, "theirs")
    await grow_old(mongo, member.org_id, old["conversation_id"], days=8)
    await grow_old(mongo, member.org_id, young["conversation_id"], days=6)
    await grow_old(mongo, caller.org_id, theirs["conversation_id"], days=100)

    control_plane.retention = {member.org_id: 7, caller.org_id: None}
    await worker.worker.retention.apply_all()

    # The embedded server looks once a second, any other once a minute.
    await eventually(lambda: _is(mongo, member.org_id, [1, 2, 1]), seconds=90)
    assert (await member.call("GET", f"/conversations/{old['conversation_id']}"))[0] == 404
    assert (await member.call("GET", f"/conversations/{young['conversation_id']}/messages"))[0] == 200
    assert await kept(mongo, caller.org_id) == [1, 2, 1], "another organization keeps what it wants"


async def test_the_setting_can_be_changed_and_taken_back(
    mongo: AsyncMongoClient[dict[str, Any]],
    control_plane: FakeControlPlane,
    worker: RunningWorker,
    member: Caller,
    instance: OrchestratorSnapshot,
) -> None:
    await member.chat(instance.instance_id, "hi")
    for days in (30, 7, None, None, 7):
        control_plane.retention = {member.org_id: days}
        await worker.worker.retention.apply_all()
        assert await limits(mongo, member.org_id) == {days and days * DAY}


async def test_an_organization_that_never_chatted_gets_no_database(
    mongo: AsyncMongoClient[dict[str, Any]], control_plane: FakeControlPlane, worker: RunningWorker, member: Caller
) -> None:
    control_plane.retention = {member.org_id: 7}
    await worker.worker.retention.apply_all()
    assert database_name(member.org_id) not in await mongo.list_database_names()


async def _is(mongo: AsyncMongoClient[dict[str, Any]], org_id: UUID, counts: list[int]) -> bool:
    return await kept(mongo, org_id) == counts
