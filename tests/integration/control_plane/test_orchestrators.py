"""Configuring orchestrators."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from control_plane.events.tables import OutboxEvent
from control_plane.wiring import Resources
from shared.events import AnyEvent, OrchestratorLoad, OrchestratorReload, decode_event
from shared.ids import new_id
from tests.integration.control_plane.callers import World
from tests.integration.control_plane.workshop import CALCULATOR, Workshop, add_plugin


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def events_of(resources: Resources, instance_id: str) -> list[AnyEvent]:
    async with resources.database() as session:
        payloads = (await session.execute(select(OutboxEvent.payload).order_by(OutboxEvent.sequence))).scalars().all()
    events = [decode_event(payload) for payload in payloads]
    return [e for e in events if getattr(e, "instance_id", None) == UUID(instance_id)]


async def test_a_created_orchestrator_is_answered_whole_and_told_to_the_workers(
    shop: Workshop, resources: Resources
) -> None:
    answer = await shop.admin.post(
        shop.path,
        shop.body(
            name="Support desk",
            tier="hot",
            whoami="You work for Example Inc.",
            config={"default_llm_config_id": shop.llm_config_id, "mode_config": {"max_handoffs": 4}},
        ),
    )
    made = answer.json()

    assert answer.status_code == 201
    assert answer.headers["etag"] == f'"{made["revision"]}"'
    assert (await shop.member.get(shop.at(made))).json() == made
    assert made["active_plugin_ids"] == [shop.calculator_id]
    assert (made["name"], made["status"], made["tier"]) == ("Support desk", "active", "hot")
    assert made["config"]["mode_config"]["max_agent_hops"] == 4, "the older name is stored under the new one"
    assert made["config"]["mode_config"].keys() == {"max_agent_hops"}, "what was not given stays inherited"
    assert len(made["config_hash"]) == 64
    assert (made["is_ready"], made["is_deleted"]) == (False, False)
    (event,) = await events_of(resources, made["instance_id"])
    assert isinstance(event, OrchestratorLoad)
    assert (event.tier, event.revision) == ("hot", made["revision"])


async def test_a_plugin_may_be_named_by_row_by_version_or_by_pid_for_the_latest(
    shop: Workshop, resources: Resources
) -> None:
    newest = await add_plugin(resources, "com.example.notes", "1.10.0")
    older = await add_plugin(resources, "com.example.notes", "1.9.0", is_latest=False)

    for ref, meant in ((older, older), ("com.example.notes@1.9.0", older), ("com.example.notes", newest)):
        made = await shop.orchestrator(active_plugin_ids=[CALCULATOR, ref])
        assert made["active_plugin_ids"] == [shop.calculator_id, meant]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a short name": ({"name": "abcd"}, "name"),
    "a long name": ({"name": "x" * 201}, "name"),
    "no plugin": ({"active_plugin_ids": []}, "active_plugin_ids"),
    "an unknown plugin": ({"active_plugin_ids": ["com.example.none"]}, "active_plugin_ids[0]"),
    "the same plugin twice": ({"active_plugin_ids": [CALCULATOR, f"{CALCULATOR}@1.0.0"]}, "active_plugin_ids[0]"),
    "an unknown framework": ({"framework_type": "crewai"}, "framework_type"),
    "an unknown tier": ({"tier": "warm"}, "tier"),
    "an unknown field": ({"color": "red"}, "color"),
    "a grounded one whose plugin is not scoped": ({"mode": "grounded"}, "active_plugin_ids"),
    "a framework for another provider": ({"framework_type": "google_adk"}, "config.default_llm_config_id"),
    "no llm_config": ({"config": {}}, "config"),
    "settings of a plugin that is not active": ({"plugin_settings": {"x.y": {}}}, "plugin_settings.x.y"),
}


async def test_a_definition_that_breaks_a_rule_is_refused_naming_the_field(shop: Workshop) -> None:
    for what, (changes, field) in REFUSED.items():
        answer = await shop.admin.post(shop.path, shop.body(**changes))

        assert answer.status_code == 422, (what, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], what
    assert (await shop.admin.get(shop.path)).json()["items"] == []


async def test_a_config_is_checked_against_the_credentials_it_points_to(shop: Workshop) -> None:
    nameless = await shop.llm_config(model_name=None)
    base = {"default_llm_config_id": shop.llm_config_id}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"default_llm_config_id": str(new_id())}, "VA-0002", "config.default_llm_config_id"),
        ({"default_llm_config_id": nameless}, "VA-0002", "config.default_model_name"),
        (
            {**base, "mode_config": {"synthesizer_node": {"llm_config_id": nameless}}},
            "VA-0002",
            "config.mode_config.synthesizer_node.model_name",
        ),
        ({**base, "mode_config": {"max_tool_rounds": 0}}, "VA-0002", "config.mode_config.max_tool_rounds"),
        ({**base, "surprise": 1}, "VA-0002", "config"),
        (
            {**base, "mode_config": {"synthesizer_node": {"prompt_override": "no slots at all"}}},
            "VA-0002",
            "config.mode_config.synthesizer_node.prompt_override",
        ),
    ]
    made = await shop.orchestrator()
    for config, code, field in cases:
        created = await shop.admin.post(shop.path, shop.body(config=config))
        changed = await shop.admin.patch(shop.at(made, "/config"), {"config": config})
        for answer in (created, changed):
            assert answer.status_code == 422, (config, answer.text)
            assert answer.json()["code"] == code
            assert field in [error["field"] for error in answer.json()["errors"]]
    assert (await shop.admin.get(shop.at(made))).json() == made, "nothing of a refused change is stored"


async def test_framework_and_mode_cannot_be_changed(shop: Workshop) -> None:
    made = await shop.orchestrator()
    for field, value in (("framework_type", "openai_agents"), ("mode", "supervisor")):
        answer = await shop.admin.patch(shop.at(made), {field: value})
        assert (answer.status_code, answer.json()["code"]) == (422, "VA-0005")
        assert answer.json()["errors"][0]["field"] == field


async def test_a_rename_is_a_new_revision_but_nothing_to_rebuild(shop: Workshop, resources: Resources) -> None:
    made = await shop.orchestrator()
    answer = await shop.admin.patch(shop.at(made), {"name": "Another name", "tier": "hot"})
    renamed = answer.json()

    assert answer.status_code == 200
    assert (renamed["name"], renamed["tier"], renamed["config_hash"]) == ("Another name", "hot", made["config_hash"])
    assert renamed["revision"] > made["revision"]
    assert [type(e) for e in await events_of(resources, made["instance_id"])] == [OrchestratorLoad, OrchestratorReload]


async def test_what_an_instance_is_built_from_makes_its_hash(shop: Workshop) -> None:
    made = await shop.orchestrator()
    hashes = [made["config_hash"]]
    changes: list[tuple[str, dict[str, Any]]] = [
        ("", {"whoami": "somebody else"}),
        ("/config", {"config": {"default_llm_config_id": shop.llm_config_id, "default_temperature": 0}}),
        ("/config", {"config": {"default_llm_config_id": await shop.llm_config()}}),
    ]
    for rest, body in changes:
        answer = await shop.admin.patch(shop.at(made, rest), body)
        assert answer.status_code == 200, answer.text
        hashes.append(answer.json()["config_hash"])
    assert len(set(hashes)) == len(hashes)

    await shop.admin.patch(shop.at(made), {"whoami": ""})
    back = await shop.admin.patch(shop.at(made, "/config"), {"config": {"default_llm_config_id": shop.llm_config_id}})
    assert back.json()["config_hash"] == made["config_hash"], "the same configuration is the same identity"


async def test_a_changed_credential_reaches_the_instances_that_use_it_and_no_others(
    shop: Workshop, resources: Resources
) -> None:
    other_key = await shop.llm_config()
    by_default = await shop.orchestrator(config={"default_llm_config_id": other_key})
    in_a_node = await shop.orchestrator(
        config={
            "default_llm_config_id": shop.llm_config_id,
            "mode_config": {"synthesizer_node": {"llm_config_id": other_key}},
        }
    )
    without = await shop.orchestrator()

    answer = await shop.admin.patch(f"{shop.tenant.path}/llm-configs/{other_key}", {"api_key": "sk-another-0123456"})
    assert answer.status_code == 200

    revisions = []
    for used in (by_default, in_a_node):
        now = (await shop.admin.get(shop.at(used))).json()
        assert now["config_hash"] != used["config_hash"]
        revisions.append(now["revision"])
        assert isinstance((await events_of(resources, used["instance_id"]))[-1], OrchestratorReload)
    assert len(set(revisions)) == 2, "each instance has a revision of its own"
    assert (await shop.admin.get(shop.at(without))).json() == without
    deleted = await shop.admin.delete(f"{shop.tenant.path}/llm-configs/{other_key}")
    assert (deleted.status_code, deleted.json()["code"]) == (409, "RE-0003")


async def test_an_instance_that_adopts_a_credential_while_it_changes_ends_up_with_the_new_one(
    shop: Workshop, resources: Resources
) -> None:
    key = await shop.llm_config()
    instances = [await shop.orchestrator() for _ in range(4)]
    config = {"config": {"default_llm_config_id": key}}
    answers = await asyncio.gather(
        *[shop.admin.patch(shop.at(made, "/config"), config) for made in instances],
        *[shop.admin.patch(f"{shop.tenant.path}/llm-configs/{key}", {"name": f"renamed {i}"}) for i in range(3)],
    )
    assert {a.status_code for a in answers} == {200}

    hashes = {(await shop.admin.get(shop.at(made))).json()["config_hash"] for made in instances}
    fresh = await shop.orchestrator(config={"default_llm_config_id": key})
    assert hashes == {fresh["config_hash"]}


async def test_a_name_is_taken_once_among_the_living(shop: Workshop) -> None:
    answers = await asyncio.gather(*[shop.admin.post(shop.path, shop.body(name="The only one")) for _ in range(4)])
    assert sorted(a.status_code for a in answers) == [201, 409, 409, 409]
    refused = next(a for a in answers if a.status_code == 409)
    assert refused.json()["code"] == "RE-0002"
    assert refused.json()["errors"][0]["field"] == "name"
    other = await shop.orchestrator()
    assert (await shop.admin.patch(shop.at(other), {"name": "The only one"})).status_code == 409

    first = next(a for a in answers if a.status_code == 201).json()
    assert (await shop.admin.delete(shop.at(first))).status_code == 204
    assert (await shop.admin.patch(shop.at(other), {"name": "The only one"})).status_code == 200


async def test_of_two_changes_meant_for_one_revision_only_one_is_made(shop: Workshop) -> None:
    made = await shop.orchestrator()
    match = {"If-Match": f'"{made["revision"]}"'}
    answers = await asyncio.gather(
        *[shop.admin.patch(shop.at(made), {"whoami": f"number {i}"}, headers=match) for i in range(4)]
    )
    assert sorted(a.status_code for a in answers) == [200, 412, 412, 412]
    winner = next(a for a in answers if a.status_code == 200).json()
    assert (await shop.admin.get(shop.at(made))).json() == winner
    writes: list[tuple[str, str, dict[str, Any] | None]] = [
        ("PATCH", "/config", {"config": {"default_llm_config_id": shop.llm_config_id}}),
        ("PATCH", "/status", {"status": "suspended"}),
        ("PATCH", "/plugin-settings", {"plugin_settings": {}}),
        ("POST", "/unload", None),
        ("DELETE", "", None),
    ]
    for method, rest, body in writes:
        stale = await shop.admin.call(method, shop.at(made, rest), json=body, headers=match)
        assert stale.status_code == 412, (method, rest)


async def test_lists_are_paged_and_filtered(shop: Workshop) -> None:
    names = ["Alpha desk", "Beta desk", "Gamma line"]
    made = [await shop.orchestrator(name=name) for name in names]
    await shop.admin.patch(shop.at(made[1], "/status"), {"status": "suspended"})

    async def names_of(**query: Any) -> list[str]:
        return [item["name"] for item in (await shop.member.get(shop.path, params=query)).json()["items"]]

    first = (await shop.member.get(shop.path, params={"limit": 2})).json()
    rest = (await shop.member.get(shop.path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [i["name"] for i in first["items"] + rest["items"]] == names
    assert rest["next_cursor"] is None
    assert await names_of(q="DESK") == names[:2]
    assert await names_of(q="%") == []
    assert await names_of(status="suspended") == ["Beta desk"]
    assert (await shop.member.get(shop.path, params={"status": "gone"})).status_code == 422


async def test_changes_of_different_fields_at_once_all_count(shop: Workshop) -> None:
    """Without If-Match the last one wins, field by field: no change writes back what another one replaced."""
    made = await shop.orchestrator()
    fields = [{"name": "Renamed by one"}, {"tier": "hot"}, {"whoami": "told by another"}] * 7
    answers = await asyncio.gather(*[shop.admin.patch(shop.at(made), body) for body in fields])
    assert {a.status_code for a in answers} == {200}
    now = (await shop.admin.get(shop.at(made))).json()
    assert (now["name"], now["tier"], now["whoami"]) == ("Renamed by one", "hot", "told by another")
    assert len({a.json()["revision"] for a in answers}) == len(answers)
