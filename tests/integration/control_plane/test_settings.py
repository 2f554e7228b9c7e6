"""Settings in tiers: who may set what, what an instance really runs with, and exactly whom a change concerns."""

from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import select

from control_plane.events.tables import OutboxEvent
from control_plane.wiring import Resources
from shared.events import GlobalSettingsChanged, OrganizationSettingsChanged, decode_event
from shared.retention import RetentionPage
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_orchestrator_lifecycle import WORKER
from tests.integration.control_plane.test_worker_feed import changes_since, snapshot_of
from tests.integration.control_plane.workshop import Workshop


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


def config(shop: Workshop, **mode_config: Any) -> dict[str, Any]:
    return {"default_llm_config_id": shop.llm_config_id, "mode_config": mode_config}


async def set_globally(root: Caller, key: str, **patch: Any) -> httpx.Response:
    return await root.patch(f"/api/admin/settings/{key}", patch)


async def set_defaults(shop: Workshop, **settings: Any) -> httpx.Response:
    """Of the organization for its orchestrators; a value that is no object stands for itself."""
    body = {key: said if isinstance(said, dict) else {"value": said} for key, said in settings.items()}
    path = f"{shop.tenant.path}/orchestrator-defaults"
    return await shop.admin.call("PUT", path, json={"settings": body})


async def effective(shop: Workshop, made: dict[str, Any], key: str) -> tuple[Any, str]:
    """A value of the `mode_config` and the tier it came from."""
    values = (await shop.member.get(shop.at(made, "/effective-config"))).json()["values"]
    found = values[f"config.mode_config.{key}"]
    return found["value"], found["source"]


async def concerned(http: httpx.AsyncClient, since: int) -> set[str]:
    return {str(change.instance_id) for change in (await changes_since(http, since)).changes}


def by_key(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return {item["key"]: item for item in answer.json()["items"]}


async def test_each_tier_wins_over_the_one_above_it_and_what_is_taken_back_is_inherited_again(
    shop: Workshop, root: Caller, http: httpx.AsyncClient
) -> None:
    own = await shop.orchestrator(config=config(shop, max_tool_rounds=9))
    plain = await shop.orchestrator()

    async def rounds() -> list[tuple[Any, str]]:
        shown = [await effective(shop, made, "max_tool_rounds") for made in (own, plain)]
        for made, (value, _) in zip((own, plain), shown, strict=True):
            snapshot = await snapshot_of(http, made["instance_id"])
            assert snapshot.config["mode_config"]["max_tool_rounds"] == value, "workers get what admins are shown"
        return shown

    assert await rounds() == [(9, "instance"), (3, "default")]
    assert (await set_globally(root, "max_tool_rounds", value=4)).status_code == 200
    assert await rounds() == [(9, "instance"), (4, "global")]
    assert (await set_defaults(shop, max_tool_rounds=5)).status_code == 200
    assert await rounds() == [(9, "instance"), (5, "organization")]
    await shop.admin.patch(shop.at(own, "/config"), {"config": config(shop)})
    assert await rounds() == [(5, "organization"), (5, "organization")]
    assert (await set_defaults(shop)).status_code == 200
    assert await rounds() == [(4, "global"), (4, "global")]
    await set_globally(root, "max_tool_rounds", value=None)
    assert await rounds() == [(3, "default"), (3, "default")]


async def test_a_value_that_equals_the_default_is_kept_against_what_comes_from_above(
    shop: Workshop, root: Caller
) -> None:
    made = await shop.orchestrator(config=config(shop, max_tool_rounds=3))
    await set_globally(root, "max_tool_rounds", value=1)
    assert await effective(shop, made, "max_tool_rounds") == (3, "instance")


async def test_what_a_tier_fixes_the_tiers_below_cannot_change(shop: Workshop, root: Caller) -> None:
    made = await shop.orchestrator(config=config(shop, run_timeout=200))
    await set_defaults(shop, run_timeout={"value": 100, "overridable": False})
    assert await effective(shop, made, "run_timeout") == (100, "organization")

    refused = await shop.admin.patch(shop.at(made, "/config"), {"config": config(shop, run_timeout=300)})
    assert (refused.status_code, refused.json()["code"]) == (422, "CF-0003")
    assert refused.json()["errors"][0]["field"] == "config.mode_config.run_timeout"
    assert (await shop.admin.post(shop.path, shop.body(config=config(shop, run_timeout=300)))).status_code == 422
    same = await shop.admin.patch(shop.at(made, "/config"), {"config": config(shop, run_timeout=100)})
    assert same.status_code == 200

    # Fixed without a value: to what is inherited. The organization has no say any more, what it said is not lost.
    await set_globally(root, "run_timeout", overridable=False)
    assert await effective(shop, made, "run_timeout") == (300, "default")
    refused = await set_defaults(shop, run_timeout=50)
    assert (refused.status_code, refused.json()["code"]) == (422, "CF-0003")
    shown = by_key(await shop.admin.get(f"{shop.tenant.path}/orchestrator-defaults"))["run_timeout"]
    assert (shown["value"], shown["overridable"], shown["fixed_by"], shown["is_set"]) == (300, False, "global", True)
    await set_globally(root, "run_timeout", overridable=True)
    assert await effective(shop, made, "run_timeout") == (100, "organization")


async def test_a_change_gives_a_new_revision_to_exactly_the_instances_it_concerns(
    shop: Workshop, world: World, resources: Resources, root: Caller, http: httpx.AsyncClient
) -> None:
    other = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    plain, own = await shop.orchestrator(), await shop.orchestrator(config=config(shop, max_agent_hops=7))
    gone = await shop.orchestrator()
    await shop.admin.delete(shop.at(gone))
    foreign = await other.orchestrator()
    since = (await changes_since(http, 0)).next_since

    await set_defaults(shop, max_agent_hops=6)
    assert await concerned(http, since) == {plain["instance_id"]}
    since = (await changes_since(http, 0)).next_since

    before = (await shop.member.get(shop.at(plain))).json()
    await set_globally(root, "max_agent_hops", value=5)
    assert await concerned(http, since) == {foreign["instance_id"]}, "the others have a value from further down"
    assert (await shop.member.get(shop.at(plain))).json() == before
    since = (await changes_since(http, 0)).next_since

    await set_globally(root, "max_agent_hops", value=5)
    await set_defaults(shop, max_agent_hops=6)
    assert await concerned(http, since) == set(), "saying the same again changes nothing"

    await set_globally(root, "max_agent_hops", overridable=False)
    changes = (await changes_since(http, since)).changes
    assert {str(c.instance_id) for c in changes} == {plain["instance_id"], own["instance_id"]}
    assert len({c.revision for c in changes}) == 2
    shown = (await shop.member.get(shop.at(own))).json()
    (change,) = [change for change in changes if str(change.instance_id) == own["instance_id"]]
    assert (shown["config_hash"], shown["revision"]) == (change.config_hash, change.revision)
    assert shown["config_hash"] != own["config_hash"]


async def test_a_configuration_that_comes_to_the_same_has_the_same_hash(shop: Workshop) -> None:
    made = await shop.orchestrator()
    await set_defaults(shop, max_tool_rounds=4)
    inherited = (await shop.member.get(shop.at(made))).json()["config_hash"]
    await set_defaults(shop)
    said = await shop.admin.patch(shop.at(made, "/config"), {"config": config(shop, max_tool_rounds=4)})
    assert said.json()["config_hash"] == inherited != made["config_hash"]


async def test_workers_hear_of_a_change_with_a_revision_that_is_news(
    shop: Workshop, root: Caller, resources: Resources, http: httpx.AsyncClient
) -> None:
    await shop.orchestrator()
    await set_globally(root, "run_timeout", value=10)
    await shop.admin.post(f"{shop.tenant.path}/settings", {"settings": {"on_disconnect": "cancel"}})
    async with resources.database() as session:
        payloads = (await session.execute(select(OutboxEvent.payload).order_by(OutboxEvent.sequence))).scalars().all()
    globally, of_organization = [decode_event(payload) for payload in payloads][-2:]
    assert isinstance(globally, GlobalSettingsChanged)
    assert globally.keys == ("run_timeout",)
    assert isinstance(of_organization, OrganizationSettingsChanged)
    assert (str(of_organization.org_id), of_organization.keys) == (shop.tenant.org_id, ("on_disconnect",))
    newest = (await changes_since(http, 0)).changes[-1].revision
    assert of_organization.revision > newest > globally.revision


async def test_settings_of_an_organization_reach_all_of_its_instances_and_nobody_elses(
    shop: Workshop, world: World, resources: Resources, http: httpx.AsyncClient
) -> None:
    other = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    made, foreign = await shop.orchestrator(), await other.orchestrator()
    path = "/settings"
    await shop.admin.post(shop.tenant.path + path, {"settings": {"max_message_chars": 77, "on_disconnect": "cancel"}})
    await shop.admin.post(shop.tenant.path + path, {"settings": {"on_disconnect": None}})

    chat = (await snapshot_of(http, made["instance_id"])).chat
    assert (chat.max_message_chars, chat.on_disconnect) == (77, "continue")
    assert (await snapshot_of(http, foreign["instance_id"])).chat.max_message_chars == 32_000
    values = (await shop.member.get(shop.at(made, "/effective-config"))).json()["values"]
    assert values["chat.max_message_chars"] == {"value": 77, "source": "organization"}
    theirs = by_key(await other.admin.get(other.tenant.path + path))["max_message_chars"]
    assert (theirs["value"], theirs["source"], theirs["is_set"], theirs["revision"]) == (32_000, "default", False, 0)


async def test_workers_are_told_how_long_each_living_organization_keeps_what_was_said(
    shop: Workshop, world: World, root: Caller, http: httpx.AsyncClient
) -> None:
    made = await shop.orchestrator()
    plain, gone = await world.organization(), await world.organization()
    await root.delete(f"/api/admin/orgs/{gone}")
    since = (await changes_since(http, 0)).next_since

    async def told() -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        after: UUID | None = None
        while True:
            query = {"limit": "1", **({"after": str(after)} if after else {})}
            answer = await http.get("/internal/retention", params=query, headers=WORKER)
            page = msgspec.json.decode(answer.content, type=RetentionPage)
            found |= {str(one.org_id): one.retention_days for one in page.organizations}
            if (after := page.next_after) is None:
                return found

    assert await told() == {shop.tenant.org_id: None, plain: None}
    await set_globally(root, "retention_days", value=90)
    await shop.admin.post(f"{shop.tenant.path}/settings", {"settings": {"retention_days": 7}})
    assert await told() == {shop.tenant.org_id: 7, plain: 90}
    await set_globally(root, "retention_days", overridable=False)
    assert await told() == {shop.tenant.org_id: 90, plain: 90}
    assert await concerned(http, since) == set(), "no instance is built from it"
    values = (await shop.member.get(shop.at(made, "/effective-config"))).json()["values"]
    assert not [path for path in values if "retention" in path]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_message_chars": 0}, "settings.max_message_chars.value"),
    ({"max_message_chars": 200_001}, "settings.max_message_chars.value"),
    ({"max_message_chars": "many"}, "settings.max_message_chars.value"),
    ({"on_disconnect": "explode"}, "settings.on_disconnect.value"),
    ({"retention_days": 0}, "settings.retention_days.value"),
    ({"no_such_thing": 1}, "settings.no_such_thing"),
    ({"run_timeout": 10}, "settings.run_timeout"),
]


async def test_what_is_unknown_or_out_of_bounds_is_refused_and_nothing_beside_it_is_kept(shop: Workshop) -> None:
    path = f"{shop.tenant.path}/settings"
    before = (await shop.admin.get(path)).json()
    for given, field in REFUSED:
        valid: dict[str, Any] = {"max_message_chars": 5} if "on_disconnect" in given else {"on_disconnect": "cancel"}
        refused = await shop.admin.post(path, {"settings": {**valid, **given}})
        assert refused.status_code == 422, given
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert (await shop.admin.get(path)).json() == before


async def test_bounds_hold_on_every_tier(shop: Workshop, root: Caller) -> None:
    for key, value in (("max_tool_rounds", 51), ("run_timeout", 0), ("enabled_suggestion", 1), ("entry_agent", "a")):
        assert (await set_defaults(shop, **{key: value})).status_code == 422
    assert (await set_globally(root, "max_tool_rounds", value=51)).status_code == 422
    assert (await set_globally(root, "default_temperature", value=3)).status_code == 422
    assert (await set_globally(root, "entry_agent", value="a")).status_code == 404
    assert (await set_globally(root, "max_tool_rounds", colour=1)).status_code == 422


async def test_the_registry_shows_type_bounds_default_unit_and_scope_of_every_setting(root: Caller) -> None:
    listed = by_key(await root.get("/api/admin/settings"))
    rounds = listed["max_tool_rounds"]
    assert rounds["schema"] == {"type": "integer", "minimum": 1, "maximum": 50}
    assert (rounds["default"], rounds["unit"], rounds["scope"]) == (3, "rounds", "instance")
    assert (rounds["value"], rounds["source"], rounds["overridable"]) == (3, "default", True)
    assert listed["message_context_window"]["default_by_mode"]["supervisor"] == 5
    assert listed["on_disconnect"]["schema"] == {"enum": ["cancel", "continue"]}
    assert listed["default_temperature"]["default"] is None


async def test_settings_have_revisions_that_a_change_can_be_meant_for(shop: Workshop, root: Caller) -> None:
    path = f"{shop.tenant.path}/orchestrator-defaults"
    first = (await set_defaults(shop, run_timeout=50)).headers["etag"]
    assert (await shop.admin.get(path)).headers["etag"] == first
    await shop.admin.post(f"{shop.tenant.path}/settings", {"settings": {"on_disconnect": "cancel"}})
    body = {"settings": {"run_timeout": {"value": 60}}}
    second = await shop.admin.call("PUT", path, json=body, headers={"If-Match": first})
    assert second.status_code == 200, "settings of the other scope are none of its business"
    assert (await shop.admin.call("PUT", path, json=body, headers={"If-Match": first})).status_code == 412

    made = await set_globally(root, "run_timeout", value=20)
    stale = await root.patch("/api/admin/settings/run_timeout", {"value": 30}, headers={"If-Match": '"0"'})
    assert stale.status_code == 412
    current = {"If-Match": made.headers["etag"]}
    assert (await root.patch("/api/admin/settings/run_timeout", {"value": 30}, headers=current)).status_code == 200


async def test_members_see_and_change_no_settings(shop: Workshop, root: Caller) -> None:
    for path in ("settings", "orchestrator-defaults"):
        assert (await shop.member.get(f"{shop.tenant.path}/{path}")).status_code == 403
    assert (await shop.member.post(f"{shop.tenant.path}/settings", {"settings": {}})).status_code == 403
    assert (await shop.admin.get("/api/admin/settings")).status_code == 403
    assert (await set_globally(shop.admin, "run_timeout", value=1)).status_code == 403
