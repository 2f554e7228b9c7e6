"""An organization's model credentials."""

import asyncio
import uuid
from typing import Any

import pytest
from sqlalchemy import select

from control_plane.events.tables import OutboxEvent
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.tables import Orchestrator, OrchestratorLLMConfig
from control_plane.wiring import Resources
from control_plane.wiring.definitions import data_keys, provide_llm_configs
from shared.errors import InvalidRequest, SecretUnreadable
from shared.frameworks import Mode
from shared.ids import new_id
from shared.orchestrator_config import default_config, to_stored
from shared.snapshots import api_key_place
from tests.integration.control_plane.callers import Caller, Tenant, World

API_KEY = "sk-canary-5e7a11-abcd"
BODY = {"name": "main", "provider": "openai", "api_key": API_KEY, "model_name": "gpt-test"}


async def stored(tenant: Tenant, **changes: Any) -> str:
    """The path of a new config."""
    answer = await tenant.admin.post(f"{tenant.path}/llm-configs", {**BODY, **changes})
    assert answer.status_code == 201, answer.text
    return f"{tenant.path}/llm-configs/{answer.json()['id']}"


def id_in(path: str) -> uuid.UUID:
    return uuid.UUID(path.rsplit("/", 1)[1])


async def test_the_key_goes_in_and_never_comes_out(world: World) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)

    answers = [
        await tenant.admin.get(path),
        await tenant.admin.get(f"{tenant.path}/llm-configs"),
        await tenant.admin.patch(path, {"api_key": API_KEY}),
    ]

    for answer in answers:
        assert answer.status_code == 200
        assert API_KEY not in answer.text
        assert "sealed" not in answer.text
    shown = answers[0].json()
    assert (shown["key_last4"], len(shown["key_fingerprint"]), shown["is_enabled"]) == ("abcd", 16, True)


async def test_a_stored_key_opens_only_in_its_own_row(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)

    async with resources.database() as session:
        sealed = (await session.execute(select(LLMConfig.sealed_api_key))).scalar_one()
        keyring = await data_keys(session, resources).opening(uuid.UUID(tenant.org_id))

    assert API_KEY not in sealed
    assert keyring.open(sealed, **api_key_place(id_in(path))) == API_KEY
    with pytest.raises(SecretUnreadable):
        keyring.open(sealed, **api_key_place(new_id()))


async def test_a_short_key_shows_nothing_of_itself(world: World) -> None:
    tenant = await world.tenant()

    shown = (await tenant.admin.get(await stored(tenant, api_key="abcd"))).json()

    assert shown["key_last4"] == ""


async def test_names_are_unique_within_the_organization_only(world: World) -> None:
    first, second = await world.tenant(), await world.tenant()
    path = await stored(first)
    other = await stored(first, name="other")

    assert (await first.admin.post(f"{first.path}/llm-configs", BODY)).status_code == 409
    assert (await first.admin.patch(other, {"name": "main"})).status_code == 409
    await stored(second)
    assert (await first.admin.delete(path)).status_code == 204
    await stored(first)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"provider": "litellm"}, "base_url"),
    ({"provider": "nobody"}, "provider"),
    ({"base_url": "ftp://models.example"}, "base_url"),
    ({"base_url": "http://169.254.169.254/latest"}, "base_url"),
    ({"base_url": "http://[fd00:ec2::254]/"}, "base_url"),
    ({"base_url": "https://user:password@models.example/v1"}, "base_url"),
    ({"api_key": "two words"}, "api_key"),
    ({"api_key": "a\r\nX-Injected: 1"}, "api_key"),
    ({"additional_config": {"headers": {f"x-{n}": "v" * 500 for n in range(20)}}}, "additional_config"),
    ({"additional_config": {"temperature": 0}}, "additional_config"),
    ({"additional_config": {"max_retries": 99}}, "additional_config.max_retries"),
    ({"provider": "azure"}, "base_url"),
    ({"provider": "claude", "additional_config": {"seed": 1}}, "additional_config.seed"),
    ({"provider": "gemini", "additional_config": {"service_tier": "auto"}}, "additional_config.service_tier"),
    ({"additional_config": {"api_version": "2024-10-21"}}, "additional_config.api_version"),
    ({"name": "   "}, "name"),
    ({"organization": "theirs"}, "organization"),
]


async def test_a_config_that_breaks_a_rule_names_the_field(world: World) -> None:
    tenant = await world.tenant()

    for changes, field in BROKEN:
        refused = await tenant.admin.post(f"{tenant.path}/llm-configs", {**BODY, **changes})

        assert refused.status_code == 422, refused.text
        assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_a_patch_changes_what_it_names_and_null_clears(world: World) -> None:
    tenant = await world.tenant()
    path = await stored(tenant, additional_config={"seed": 7})

    changed = await tenant.admin.patch(path, {"model_name": None, "is_enabled": False})

    assert changed.status_code == 200
    shown = changed.json()
    assert (shown["model_name"], shown["is_enabled"], shown["additional_config"]) == (None, False, {"seed": 7})
    assert shown["updated_at"] > shown["created_at"]


async def test_the_provider_never_changes(world: World) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)

    refused = await tenant.admin.patch(path, {"provider": "groq"})

    assert (refused.status_code, refused.json()["code"]) == (422, "VA-0005")
    assert (await tenant.admin.patch(path, {"provider": "openai"})).status_code == 200


async def test_a_stale_change_or_delete_is_refused(world: World) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)
    old = {"If-Match": (await tenant.admin.get(path)).headers["etag"]}

    answers = await asyncio.gather(*(tenant.admin.patch(path, {"name": f"n{n}"}, headers=old) for n in range(4)))

    assert sorted(a.status_code for a in answers) == [200, 412, 412, 412]
    assert (await tenant.admin.delete(path, headers=old)).status_code == 412


async def use(resources: Resources, tenant: Tenant, config_id: uuid.UUID) -> uuid.UUID:
    """The id of a new orchestrator that refers to the config."""
    async with resources.database() as session:
        instance = Orchestrator(
            org_id=uuid.UUID(tenant.org_id),
            name="helpdesk",
            framework_type="langgraph",
            mode="supervisor",
            config=to_stored(default_config(Mode.SUPERVISOR, config_id)),
            config_hash="",
        )
        session.add(instance)
        await session.flush()
        session.add(OrchestratorLLMConfig(instance_id=instance.id, llm_config_id=config_id))
        await session.commit()
        return instance.id


async def test_a_changed_config_changes_every_orchestrator_that_uses_it(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)
    instance_id = await use(resources, tenant, id_in(path))

    changed = await tenant.admin.patch(path, {"api_key": "sk-another-key-0000"})

    async with resources.database() as session:
        instance = await session.get_one(Orchestrator, instance_id)
        events = (await session.execute(select(OutboxEvent.routing_key))).scalars().all()
    assert instance.revision > int(changed.headers["etag"].strip('"'))
    assert len(instance.config_hash) == 64
    assert events == ["orchestrator.reload"]


async def test_a_config_in_use_is_not_deleted(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)
    await use(resources, tenant, id_in(path))

    refused = await tenant.admin.delete(path)

    assert (refused.status_code, refused.json()["code"]) == (409, "RE-0003")
    assert "helpdesk" in refused.json()["detail"]
    assert (await tenant.admin.get(path)).status_code == 200


async def test_a_config_an_orchestrator_is_adopting_cannot_be_deleted_meanwhile(
    world: World, resources: Resources
) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)
    config_id, org_id = id_in(path), uuid.UUID(tenant.org_id)

    async with resources.database() as adopting:
        await provide_llm_configs(adopting, resources).require(org_id, [config_id])
        deletion = asyncio.create_task(tenant.admin.delete(path))
        instance = Orchestrator(
            org_id=org_id, name="new", framework_type="langgraph", mode="supervisor", config={}, config_hash=""
        )
        adopting.add(instance)
        await adopting.flush()
        adopting.add(OrchestratorLLMConfig(instance_id=instance.id, llm_config_id=config_id))
        await adopting.commit()

    assert (await deletion).status_code in (204, 409)
    # Whichever came first, no living orchestrator is left without its config.
    is_there = (await tenant.admin.get(path)).status_code == 200
    assert is_there is ((await deletion).status_code == 409)


async def test_configs_that_are_missing_foreign_or_disabled_cannot_be_required(
    world: World, resources: Resources
) -> None:
    mine, theirs = await world.tenant(), await world.tenant()
    good, disabled, foreign = await stored(mine), await stored(mine, name="off"), await stored(theirs)
    await mine.admin.patch(disabled, {"is_enabled": False})
    unknown = new_id()

    async with resources.database() as session:
        service = provide_llm_configs(session, resources)
        wanted = [id_in(good), id_in(disabled), id_in(foreign), unknown]
        with pytest.raises(InvalidRequest) as refusal:
            await service.require(uuid.UUID(mine.org_id), wanted)
        found = await service.require(uuid.UUID(mine.org_id), [id_in(good)])

    assert [(e.code, str(id_in(foreign)) in e.message) for e in refusal.value.errors] == [
        ("disabled", False),
        ("unknown", True),
        ("unknown", False),
    ]
    assert [config.id for config in found] == [id_in(good)]


async def test_a_sys_admin_from_outside_may_look_but_never_use_a_key(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)

    assert (await root.get(path)).status_code == 200
    assert (await root.get(f"{tenant.path}/llm-configs")).status_code == 200
    assert (await root.post(f"{path}/test")).status_code == 403
    # Sending the key to another address would be a way to read it.
    assert (await root.patch(path, {"base_url": "https://elsewhere.example/v1"})).status_code == 403
    assert (await root.patch(path, {"name": "renamed"})).status_code == 200


async def test_members_who_are_not_admins_see_no_configs(world: World) -> None:
    tenant = await world.tenant()
    path = await stored(tenant)

    assert (await tenant.member.get(path)).status_code == 403
    assert (await tenant.member.get(f"{tenant.path}/llm-configs")).status_code == 403
    assert (await tenant.member.post(f"{path}/test")).status_code == 403
