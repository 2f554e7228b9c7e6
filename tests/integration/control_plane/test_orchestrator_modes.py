"""What each mode asks of an instance's plugins and config, whenever either changes."""

from typing import Any

import pytest

from control_plane.wiring import Resources
from tests.integration.control_plane.callers import World
from tests.integration.control_plane.workshop import CALCULATOR, Workshop, add_plugin

ORDERS = "com.example.orders"


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def refused(shop: Workshop, method: str, path: str, body: dict[str, Any]) -> str:
    answer = await getattr(shop.admin, method)(path, body)
    assert answer.status_code == 422, answer.text
    field: str = answer.json()["errors"][0]["field"]
    return field


async def effective(shop: Workshop, made: dict[str, Any], key: str) -> Any:
    answer = await shop.admin.get(shop.at(made, "/effective-config"))
    return answer.json()["values"][f"config.mode_config.{key}"]["value"]


@pytest.mark.parametrize("mode", ["supervisor", "coordinator", "handoff"])
async def test_a_mode_of_any_plugins_is_created_with_its_defaults(shop: Workshop, mode: str) -> None:
    made = await shop.orchestrator(mode=mode)
    assert (made["mode"], await effective(shop, made, "run_timeout")) == (mode, 300)


async def test_a_grounded_orchestrator_has_exactly_one_scoped_plugin(shop: Workshop, resources: Resources) -> None:
    await add_plugin(resources, ORDERS, is_scoped=True)
    made = await shop.orchestrator(mode="grounded", active_plugin_ids=[ORDERS])
    assert await effective(shop, made, "enabled_validator") is True
    for plugins in ([CALCULATOR], [ORDERS, CALCULATOR]):
        body = shop.body(mode="grounded", active_plugin_ids=plugins)
        assert await refused(shop, "post", shop.path, body) == "active_plugin_ids"
        assert await refused(shop, "patch", shop.at(made), {"active_plugin_ids": plugins}) == "active_plugin_ids"


async def test_a_version_without_a_scoped_agent_cannot_be_activated_in_a_grounded_one(
    shop: Workshop, resources: Resources
) -> None:
    await add_plugin(resources, ORDERS, "1.0.0", is_scoped=True, is_latest=False)
    await add_plugin(resources, ORDERS, "2.0.0")
    made = await shop.orchestrator(mode="grounded", active_plugin_ids=[f"{ORDERS}@1.0.0"])
    path = shop.at(made, "/plugins/activate")
    assert await refused(shop, "post", path, {"plugin_id": f"{ORDERS}@2.0.0"}) == "active_plugin_ids"


async def test_an_entry_agent_is_an_active_plugin_whatever_changes(shop: Workshop, resources: Resources) -> None:
    await add_plugin(resources, ORDERS)
    config = {"default_llm_config_id": shop.llm_config_id, "mode_config": {"entry_agent": ORDERS}}
    field = "config.mode_config.entry_agent"
    assert await refused(shop, "post", shop.path, shop.body(mode="handoff", config=config)) == field
    made = await shop.orchestrator(mode="handoff", active_plugin_ids=[CALCULATOR, ORDERS], config=config)
    assert await refused(shop, "patch", shop.at(made), {"active_plugin_ids": [CALCULATOR]}) == field
    gone = {**config, "mode_config": {"entry_agent": "com.example.gone"}}
    assert await refused(shop, "patch", shop.at(made, "/config"), {"config": gone}) == field


async def test_a_fallback_has_a_provider_of_the_framework_and_a_model_name(shop: Workshop) -> None:
    nameless = await shop.llm_config(model_name=None)
    field = "config.fallback_llm_config_id"
    config = {"default_llm_config_id": shop.llm_config_id, "fallback_llm_config_id": nameless}
    assert await refused(shop, "post", shop.path, shop.body(config=config)) == field
    made = await shop.orchestrator(config={**config, "default_model_name": "gpt-other"})
    assert made["config"]["fallback_llm_config_id"] == nameless
    answer = await shop.admin.delete(f"{shop.tenant.path}/llm-configs/{nameless}")
    assert answer.status_code == 409, "an instance still falls back to it"


async def test_a_fallback_of_another_tenant_does_not_exist(shop: Workshop, world: World, resources: Resources) -> None:
    other = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    config = {"default_llm_config_id": shop.llm_config_id, "fallback_llm_config_id": other.llm_config_id}
    answer = await shop.admin.post(shop.path, shop.body(config=config))
    assert answer.status_code == 422
    assert "there is no llm_config" in answer.text
