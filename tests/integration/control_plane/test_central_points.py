"""Central points: an address that stays while the orchestrator behind it changes."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, text

from control_plane.events.tables import OutboxEvent
from control_plane.wiring import Resources
from shared.errors import AlreadyExists
from shared.events import CentralPointChanged, decode_event
from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_orchestrator_lifecycle import WORKER
from tests.integration.control_plane.test_worker_feed import changes_since
from tests.integration.control_plane.workshop import Workshop


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


@pytest.fixture
async def made(shop: Workshop) -> dict[str, Any]:
    """A point at an orchestrator of its own."""
    return await shop.central_point((await shop.orchestrator())["instance_id"], name="Helpdesk")


def at(shop: Workshop, made: dict[str, Any]) -> str:
    return f"{shop.tenant.path}/central-points/{made['central_id']}"


async def test_a_point_is_made_shown_listed_changed_and_deleted(shop: Workshop, made: dict[str, Any]) -> None:
    assert (made["visibility"], made["org_id"]) == ("private", shop.tenant.org_id)
    assert (made["requests_per_minute"], made["requests_per_minute_per_address"]) == (60, 10)
    shown = await shop.admin.get(at(shop, made))
    assert shown.json() == made
    assert shown.headers["ETag"] == f'"{made["revision"]}"'
    other = await shop.central_point(made["instance_id"])
    first = (await shop.admin.get(f"{shop.tenant.path}/central-points?limit=1")).json()
    assert [item["central_id"] for item in first["items"]] == [made["central_id"]]
    rest = await shop.admin.get(f"{shop.tenant.path}/central-points?cursor={first['next_cursor']}")
    assert [item["central_id"] for item in rest.json()["items"]] == [other["central_id"]]

    changed = await shop.admin.patch(at(shop, made), {"visibility": "public", "requests_per_minute": 5})
    assert (changed.json()["visibility"], changed.json()["requests_per_minute"]) == ("public", 5)
    assert changed.json()["central_id"] == made["central_id"]
    assert (await shop.admin.delete(at(shop, made))).status_code == 204
    assert (await shop.admin.get(at(shop, made))).status_code == 404
    # Its name is free again.
    await shop.central_point(made["instance_id"], name="Helpdesk")


async def test_a_name_is_there_once_in_an_organization(shop: Workshop, made: dict[str, Any]) -> None:
    body = {"name": "Helpdesk", "instance_id": made["instance_id"]}
    refused = await shop.admin.post(f"{shop.tenant.path}/central-points", body)
    assert (refused.status_code, refused.json()["code"]) == (409, "RE-0002")
    other = await shop.central_point(made["instance_id"])
    assert (await shop.admin.patch(at(shop, other), {"name": "Helpdesk"})).status_code == 409


async def test_of_two_changes_at_once_the_second_is_told(shop: Workshop, made: dict[str, Any]) -> None:
    stale = {"If-Match": f'"{made["revision"]}"'}
    first = await shop.admin.call("PATCH", at(shop, made), json={"description": "one"}, headers=stale)
    second = await shop.admin.call("PATCH", at(shop, made), json={"description": "two"}, headers=stale)
    assert (first.status_code, second.status_code) == (200, 412)
    assert (await shop.admin.call("DELETE", at(shop, made), headers=stale)).status_code == 412


async def test_a_point_leads_to_an_orchestrator_of_its_own_organization_that_is_not_deactivated(
    world: World, resources: Resources, shop: Workshop, made: dict[str, Any]
) -> None:
    theirs = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    foreign = (await theirs.orchestrator())["instance_id"]
    gone = await shop.orchestrator()
    assert (await shop.admin.delete(shop.at(gone))).status_code == 204
    answers = []
    for instance_id in (foreign, gone["instance_id"], str(new_id())):
        refused = await shop.admin.patch(at(shop, made), {"instance_id": instance_id})
        assert refused.status_code == 422
        assert [error["field"] for error in refused.json()["errors"]] == ["instance_id"]
        answers.append(refused.json()["errors"])
        body = {"name": "Another", "instance_id": instance_id}
        assert (await shop.admin.post(f"{shop.tenant.path}/central-points", body)).status_code == 422
    assert answers[0] == answers[2]


async def test_an_orchestrator_that_a_point_refers_to_is_not_deleted(
    shop: Workshop, made: dict[str, Any], root: Caller
) -> None:
    for who in (shop.admin, root):
        refused = await who.delete(f"{shop.path}/{made['instance_id']}")
        assert (refused.status_code, refused.json()["code"]) == (409, "RE-0003")
        assert "Helpdesk" in refused.json()["detail"]
    other = await shop.orchestrator()
    await shop.admin.patch(at(shop, made), {"instance_id": other["instance_id"]})
    assert (await shop.admin.delete(f"{shop.path}/{made['instance_id']}")).status_code == 204


async def test_a_member_reads_nothing_of_points_and_an_admin_of_elsewhere_sees_none(
    world: World, shop: Workshop, made: dict[str, Any]
) -> None:
    mine = await world.tenant()
    assert (await shop.member.get(at(shop, made))).status_code == 403
    assert (await mine.admin.get(at(shop, made))).status_code == 404
    assert (await mine.admin.get(f"{mine.path}/central-points")).json()["items"] == []
    own_path = f"{mine.path}/central-points/{made['central_id']}"
    for answer in (await mine.admin.get(own_path), await mine.admin.patch(own_path, {"name": "mine"})):
        assert answer.status_code == 404


async def test_the_database_itself_shows_a_point_to_its_own_organization_only(
    shop: Workshop, made: dict[str, Any], world: World, resources: Resources
) -> None:
    mine = await world.tenant()
    for org_id, expected in ((shop.tenant.org_id, 1), (mine.org_id, 0)):
        async with resources.database(UUID(org_id)) as session:
            found = await session.execute(text("SELECT count(*) FROM central_points"))
            assert found.scalar_one() == expected


async def test_workers_hear_of_every_change_in_the_order_of_revisions(
    shop: Workshop, made: dict[str, Any], http: httpx.AsyncClient
) -> None:
    other = await shop.orchestrator()
    swapped = (await shop.admin.patch(at(shop, made), {"instance_id": other["instance_id"]})).json()
    since, seen = 0, []
    while True:
        page = await changes_since(http, since, limit=1)
        seen += [(c.revision, str(c.instance_id)) for c in page.changes]
        seen += [(c.revision, str(c.central_id)) for c in page.central_points]
        since = page.next_since
        if not page.has_more:
            break
    assert seen == sorted(seen)
    assert (swapped["revision"], made["central_id"]) == seen[-1]
    (point,) = (await changes_since(http, made["revision"])).central_points
    assert (str(point.instance_id), point.is_deleted) == (other["instance_id"], False)
    await shop.admin.delete(at(shop, made))
    (point,) = (await changes_since(http, since)).central_points
    assert point.is_deleted


async def test_a_change_of_a_point_is_an_event_in_the_same_transaction(
    shop: Workshop, made: dict[str, Any], resources: Resources
) -> None:
    await shop.admin.patch(at(shop, made), {"visibility": "public"})
    await shop.admin.patch(at(shop, made), {"name": ""})
    async with resources.database() as session:
        rows = await session.execute(select(OutboxEvent.payload).order_by(OutboxEvent.sequence))
        told = [event for raw in rows.scalars() if isinstance(event := decode_event(raw), CentralPointChanged)]
    assert [str(event.central_id) for event in told] == [made["central_id"]] * 2, "one refused change tells nothing"
    changed = (await shop.admin.get(at(shop, made))).json()
    assert told[0].revision == made["revision"] < told[1].revision == changed["revision"]


async def test_a_change_that_is_refused_when_it_is_stored_leaves_no_trace_of_itself(
    shop: Workshop, made: dict[str, Any], resources: Resources
) -> None:
    other = await shop.central_point(made["instance_id"])
    async with resources.database() as session:
        before = (await session.execute(select(func.count()).select_from(OutboxEvent))).scalar_one()
    for answer in (
        await shop.admin.patch(at(shop, made), {"name": other["name"]}),
        await shop.admin.post(
            f"{shop.tenant.path}/central-points", {"name": other["name"], "instance_id": made["instance_id"]}
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, AlreadyExists.code)
        entry = (await shop.admin.get(f"{shop.tenant.path}/audit?limit=1")).json()["items"][0]
        assert (entry["refused_with"], entry["changes"]) == (409, [])
    async with resources.database() as session:
        assert (await session.execute(select(func.count()).select_from(OutboxEvent))).scalar_one() == before


async def test_a_swap_is_in_the_audit_log_with_both_orchestrators(shop: Workshop, made: dict[str, Any]) -> None:
    other = await shop.orchestrator()
    await shop.admin.patch(at(shop, made), {"instance_id": other["instance_id"]})
    entry = (await shop.admin.get(f"{shop.tenant.path}/audit?limit=1")).json()["items"][0]
    (change,) = [c for c in entry["changes"] if c["table"] == "central_points"]
    assert (change["before"]["instance_id"], change["after"]["instance_id"]) == (
        made["instance_id"],
        other["instance_id"],
    )


async def test_workers_are_told_whether_an_organization_is_there_and_active(
    world: World, root: Caller, http: httpx.AsyncClient
) -> None:
    tenant = await world.tenant()

    async def status() -> object:
        return (await http.get(f"/internal/organizations/{tenant.org_id}", headers=WORKER)).json()["status"]

    assert await status() == "active"
    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"status": "suspended"})
    assert await status() == "suspended"
    await root.delete(f"/api/admin/orgs/{tenant.org_id}")
    assert await status() is None
