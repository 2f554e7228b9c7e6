"""Rows that are changed past the ORM, in a session that knows them as its own."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from control_plane.audit.chain import verify
from control_plane.audit.tables import AuditEntry
from control_plane.central_points.repository import CentralPointRepository
from control_plane.central_points.tables import CentralPoint
from control_plane.database.changes import take_changes
from control_plane.database.rows import store_last
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.tables import Orchestrator
from control_plane.wiring import Resources
from shared.errors import NotFound
from shared.events import CentralPointChanged
from shared.ids import new_id
from tests.integration.control_plane.callers import World
from tests.integration.control_plane.workshop import Workshop


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


def told(point: CentralPoint) -> CentralPointChanged:
    return CentralPointChanged(
        event_id=new_id(), revision=0, occurred_at=datetime.now(UTC), org_id=point.org_id, central_id=point.id
    )


def sealed_config(org_id: UUID, name: str) -> LLMConfig:
    return LLMConfig(
        org_id=org_id,
        name=name,
        provider="openai",
        model_name=None,
        sealed_api_key="sealed",
        key_fingerprint="f",
        key_last4="",
    )


async def test_what_is_changed_of_one_is_stored_with_its_revision_and_told_once(
    shop: Workshop, resources: Resources
) -> None:
    made = await shop.orchestrator(whoami="before")
    org_id, instance_id = UUID(shop.tenant.org_id), UUID(made["instance_id"])
    async with resources.database(org_id) as session:
        orchestrators = OrchestratorRepository(session)
        row = await orchestrators.get_for_change(org_id, instance_id)
        assert not session.dirty
        row.whoami, row.config = "after", {**row.config, "default_temperature": 0.5}
        await orchestrators.revise(row)
        assert row.revision > made["revision"]
        assert not session.dirty
        (change,) = take_changes(session)
        assert (change.table, change.action, change.id) == ("orchestrator_instances", "update", str(instance_id))
        assert (change.before["whoami"], change.after["whoami"]) == ("before", "after")
        assert change.after.keys() == {"whoami", "config"}
        assert await orchestrators.get_for_change(org_id, instance_id) is row
        # The session goes on as with any other of its rows.
        row.name, first = "Renamed", row.revision
        await orchestrators.revise(row)
        await session.commit()
    async with resources.database(org_id) as session:
        stored = await session.get_one(Orchestrator, instance_id)
        assert (stored.whoami, stored.name, stored.config["default_temperature"]) == ("after", "Renamed", 0.5)
        assert (stored.revision, stored.updated_at) == (row.revision, row.updated_at)
        assert stored.revision > first


async def test_one_of_another_organization_is_not_there(shop: Workshop, world: World, resources: Resources) -> None:
    made = await shop.orchestrator()
    point = await shop.central_point(made["instance_id"])
    other_id = UUID((await world.tenant()).org_id)
    for org_id in (other_id, UUID(shop.tenant.org_id)):
        async with resources.database(other_id) as session:
            with pytest.raises(NotFound):
                await OrchestratorRepository(session).get_definition_for_change(org_id, UUID(made["instance_id"]))
            with pytest.raises(NotFound):
                await CentralPointRepository(session).get_for_change(org_id, UUID(point["central_id"]))


async def test_one_that_is_refused_leaves_nothing_behind(shop: Workshop, resources: Resources) -> None:
    made = await shop.orchestrator()
    one, two = [await shop.central_point(made["instance_id"]) for _ in range(2)]
    org_id = UUID(shop.tenant.org_id)
    async with resources.database(org_id) as session:
        points = CentralPointRepository(session)
        point = await points.get_for_change(org_id, UUID(one["central_id"]))
        point.name = two["name"]
        with pytest.raises(IntegrityError):
            await points.revise_last(point, told(point))
        await session.rollback()
        stored = (await session.execute(select(CentralPoint).order_by(CentralPoint.id))).scalars().all()
        assert [row.name for row in stored] == [one["name"], two["name"]]
    answer = await shop.admin.patch(f"{shop.tenant.path}/central-points/{one['central_id']}", {"name": two["name"]})
    assert answer.status_code == 409


async def test_the_audit_chain_holds_when_changes_of_all_kinds_come_at_once(
    shop: Workshop, resources: Resources
) -> None:
    made = [await shop.orchestrator() for _ in range(2)]
    point = await shop.central_point(made[0]["instance_id"])
    credential = f"{shop.tenant.path}/llm-configs/{shop.llm_config_id}"
    for i in range(5):
        answers = await asyncio.gather(
            shop.admin.patch(shop.at(made[0]), {"whoami": f"number {i}"}),
            shop.admin.patch(shop.at(made[1]), {"name": f"Number {i}"}),
            shop.admin.patch(f"{shop.tenant.path}/central-points/{point['central_id']}", {"description": f"{i}"}),
            # Gives all that use it a revision of their own.
            shop.admin.patch(credential, {"model_name": f"gpt-{i}"}),
            shop.admin.post(shop.path, shop.body()),
            # Refused after its number was taken, unless it comes before the other one has the name.
            shop.admin.patch(shop.at(made[0]), {"name": f"Number {i}"}),
        )
        assert {answer.status_code for answer in answers} <= {200, 201, 409}
    async with resources.database() as session:
        reports = [report async for report in verify(session)]
        assert [report.problem for report in reports] == [None] * len(reports)
        entries = (await session.execute(select(AuditEntry).where(AuditEntry.route.like("%orchestrators%")))).scalars()
        told = [change["after"] for entry in entries for change in entry.changes if change["action"] == "update"]
    assert {change["whoami"] for change in told if "whoami" in change} == {f"number {i}" for i in range(5)}


async def test_what_is_changed_of_one_later_goes_with_the_commit_and_not_with_a_rollback(
    shop: Workshop, resources: Resources
) -> None:
    made = await shop.orchestrator()
    org_id, central_id = UUID(shop.tenant.org_id), UUID((await shop.central_point(made["instance_id"]))["central_id"])
    async with resources.database(org_id) as session:
        points = CentralPointRepository(session)
        for description, ends in (("undone", session.rollback), ("done", session.commit)):
            point = await points.get_for_change(org_id, central_id)
            assert point.description != "undone"
            point.description = description
            await ends()
    async with resources.database(org_id) as session:
        assert (await session.get_one(CentralPoint, central_id)).description == "done"


async def test_the_orm_goes_on_in_the_transaction_that_was_begun_without_it(
    shop: Workshop, resources: Resources
) -> None:
    made = await shop.orchestrator()
    org_id, central_id = UUID(shop.tenant.org_id), UUID((await shop.central_point(made["instance_id"]))["central_id"])
    for ends, is_kept in (("rollback", False), ("close", False), ("commit", True)):
        name = f"before the {ends}"
        async with resources.database(org_id) as session:
            points = CentralPointRepository(session)
            point = await points.get_for_change(org_id, central_id)
            point.name = name
            await points.revise_last(point, told(point))
            # Seen by it although nobody else sees it yet, and as the row that is there already.
            found = (await session.execute(select(CentralPoint).where(CentralPoint.name == name))).scalar_one()
            assert found is point
            session.add(sealed_config(org_id, name))
            await session.flush()
            await getattr(session, ends)()
            # The next transaction of the session begins as the first one did.
            assert ((await points.get_for_change(org_id, central_id)).name == name) is is_kept
        async with resources.database(org_id) as session:
            kept = (await session.execute(select(LLMConfig).where(LLMConfig.name == name))).scalars().all()
            assert len(kept) == is_kept


async def test_a_new_one_has_what_its_columns_give_it_and_is_told_of(shop: Workshop, resources: Resources) -> None:
    org_id = UUID(shop.tenant.org_id)
    config = sealed_config(org_id, "new")
    config.key_last4 = ""
    async with resources.database(org_id) as session:
        await store_last(session, config)
        (change,) = take_changes(session)
        assert (change.action, change.after["name"], change.after["sealed_api_key"]) == ("insert", "new", "***")
        assert not session.new
        assert not session.dirty
        config.name = "renamed"
        await session.commit()
    async with resources.database(org_id) as session:
        stored = await session.get_one(LLMConfig, config.id)
        assert (stored.name, stored.is_enabled, stored.is_deleted, stored.additional_config) == (
            "renamed",
            True,
            False,
            {},
        )
        assert (stored.base_url, stored.created_at, stored.revision) == (None, config.created_at, config.revision)
