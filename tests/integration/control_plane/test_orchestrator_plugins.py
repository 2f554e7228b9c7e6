"""Plugins of an orchestrator and their settings."""

from typing import Any

import pytest
from sqlalchemy import select

from control_plane.orchestrators.tables import Orchestrator
from control_plane.wiring import Resources
from control_plane.wiring.definitions import data_keys
from shared.snapshots import SEALED_FIELD, plugin_setting_place
from tests.integration.control_plane.callers import World
from tests.integration.control_plane.workshop import CALCULATOR, WEATHER, WEATHER_SETTINGS, Workshop, add_plugin

KEY, NEXT_KEY = f"system:{WEATHER}@1.0.0", f"system:{WEATHER}@2.0.0"


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    shop = await Workshop.open(world, resources)
    await add_plugin(resources, WEATHER, schema=WEATHER_SETTINGS)
    return shop


async def set_settings(shop: Workshop, made: dict[str, Any], settings: dict[str, Any], status: int = 200) -> Any:
    answer = await shop.admin.patch(shop.at(made, "/plugin-settings"), {"plugin_settings": settings})
    assert answer.status_code == status, answer.text
    return answer.json()


async def sealed_key(shop: Workshop, made: dict[str, Any], key: str) -> str:
    """The plain text of the stored `api_key`."""
    async with shop.resources.database() as session:
        row = (await session.execute(select(Orchestrator).where(Orchestrator.id == made["instance_id"]))).scalar_one()
        keyring = await data_keys(session, shop.resources).opening(row.org_id)
    place = plugin_setting_place(row.id, key, "api_key")
    return keyring.open(row.plugin_settings[key]["api_key"][SEALED_FIELD], **place)


async def test_settings_are_typed_merged_and_secrets_masked(shop: Workshop) -> None:
    made = await shop.orchestrator(active_plugin_ids=[WEATHER])
    first = await set_settings(shop, made, {KEY: {"units": "imperial", "api_key": "canary-one"}})
    assert first["plugin_settings"] == {KEY: {"units": "imperial", "api_key": "***"}}
    assert first["config_hash"] != made["config_hash"]

    kept = await set_settings(shop, made, {WEATHER: {"api_key": "***", "retries": 5}})
    assert kept["plugin_settings"] == {KEY: {"units": "imperial", "api_key": "***", "retries": 5}}
    assert await sealed_key(shop, made, KEY) == '"canary-one"'
    same = await set_settings(shop, made, {WEATHER: {"api_key": "***"}})
    assert same["config_hash"] == kept["config_hash"]
    replaced = await set_settings(shop, made, {WEATHER: {"api_key": "canary-two", "units": None}})
    assert replaced["plugin_settings"] == {KEY: {"api_key": "***", "retries": 5}}
    assert await sealed_key(shop, made, KEY) == '"canary-two"'
    assert replaced["config_hash"] != same["config_hash"]

    wrong: list[dict[str, dict[str, Any]]] = [
        {WEATHER: {"retries": "many"}},
        {WEATHER: {"retries": True}},
        {WEATHER: {"color": "red"}},
        {CALCULATOR: {}},
        {WEATHER: {"units": {SEALED_FIELD: "v1.k1.forged"}}},
    ]
    for settings in wrong:
        refused = await set_settings(shop, made, settings, status=422)
        assert refused["code"] == "PL-0004"
    assert (await shop.admin.get(shop.at(made))).json() == replaced


async def test_a_required_setting_must_be_there_when_the_plugin_becomes_active(
    shop: Workshop, resources: Resources
) -> None:
    required = ({"key": "token", "type": "str", "description": "t", "required": True, "sensitive": True},)
    await add_plugin(resources, "com.example.mail", schema=required)
    refs = ["com.example.mail"]
    refused = await shop.admin.post(shop.path, shop.body(active_plugin_ids=refs))
    assert (refused.status_code, refused.json()["code"]) == (422, "PL-0004")

    made = await shop.orchestrator()
    assert (await shop.admin.patch(shop.at(made), {"active_plugin_ids": refs})).status_code == 422
    settings = {"com.example.mail": {"token": "canary"}}
    answer = await shop.admin.patch(shop.at(made), {"active_plugin_ids": refs, "plugin_settings": settings})
    assert answer.status_code == 200, answer.text
    assert answer.json()["plugin_settings"] == {"system:com.example.mail@1.0.0": {"token": "***"}}
    await set_settings(shop, made, {"com.example.mail": {"token": None}}, status=422)


async def test_another_version_inherits_the_settings_it_still_has(shop: Workshop, resources: Resources) -> None:
    made = await shop.orchestrator(
        active_plugin_ids=[CALCULATOR, WEATHER],
        plugin_settings={WEATHER: {"units": "imperial", "api_key": "canary", "retries": 9}},
    )
    schema = (
        WEATHER_SETTINGS[0],
        WEATHER_SETTINGS[1],
        {"key": "retries", "type": "str", "description": "now words", "default": "twice"},
        {"key": "region", "type": "str", "description": "new", "default": "eu"},
    )
    next_id = await add_plugin(resources, WEATHER, "2.0.0", schema=schema, is_latest=False)

    answer = await shop.admin.post(shop.at(made, "/plugins/activate"), {"plugin_id": f"{WEATHER}@2.0.0"})
    switched = answer.json()
    assert answer.status_code == 200, answer.text
    assert switched["active_plugin_ids"] == [shop.calculator_id, next_id], "it keeps its place"
    assert switched["plugin_settings"] == {NEXT_KEY: {"units": "imperial", "api_key": "***"}}
    assert await sealed_key(shop, made, NEXT_KEY) == '"canary"', "sealed anew for its new place"
    assert switched["config_hash"] != made["config_hash"]

    synced = (await shop.admin.call("PUT", shop.at(made, "/plugins/sync"))).json()
    assert synced["plugin_settings"] == {
        NEXT_KEY: {"units": "imperial", "api_key": "***", "retries": "twice", "region": "eu"}
    }
    assert synced["config_hash"] == switched["config_hash"], "writing defaults down changes nothing that is built"

    for ref in ("com.example.none", f"{WEATHER}@9.9.9"):
        answer = await shop.admin.post(shop.at(made, "/plugins/activate"), {"plugin_id": ref})
        assert answer.status_code == 422
    other = await add_plugin(resources, "com.example.other")
    refused = await shop.admin.post(shop.at(made, "/plugins/activate"), {"plugin_id": other})
    assert refused.json()["errors"][0]["code"] == "not_active"


async def test_dropping_a_plugin_drops_its_settings(shop: Workshop) -> None:
    made = await shop.orchestrator(
        active_plugin_ids=[WEATHER, CALCULATOR], plugin_settings={WEATHER: {"units": "imperial"}}
    )
    answer = await shop.admin.patch(shop.at(made), {"active_plugin_ids": [CALCULATOR]})
    assert (answer.json()["active_plugin_ids"], answer.json()["plugin_settings"]) == ([shop.calculator_id], {})
