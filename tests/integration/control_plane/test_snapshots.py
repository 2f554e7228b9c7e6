"""What a snapshot is made of, against the rows themselves."""

from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import select

from control_plane.data_keys.tables import DataKey
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.tables import Orchestrator
from control_plane.plugins.tables import SystemPlugin
from control_plane.provider_models.tables import ProviderModel
from control_plane.wiring import Resources
from shared.ids import new_id
from shared.pricing import ModelPrice
from shared.security.data_keys import data_keys_of
from shared.snapshots import SEALED_DEFAULT_FIELD, OrchestratorSnapshot, WrappedDataKey
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_settings import set_defaults, set_globally
from tests.integration.control_plane.test_worker_feed import snapshot_of
from tests.integration.control_plane.workshop import WEATHER, WEATHER_SETTINGS, Workshop, add_plugin

OWN = "com.example.own"


async def from_rows(resources: Resources, instance_id: str) -> OrchestratorSnapshot:
    """Put together of rows of the ORM, one table after the other."""
    async with resources.database() as session:
        row = await session.get_one(Orchestrator, UUID(instance_id))
        definition = await OrchestratorRepository(session).definition(row)
        models = sorted(definition.models())
        prices = []
        for provider, name in models:
            vendor = "anthropic" if provider == "claude" else provider
            query = select(ProviderModel).where(ProviderModel.provider == vendor, ProviderModel.model_name == name)
            model = (await session.execute(query)).scalar_one_or_none()
            if model is not None and model.input_price is not None and model.output_price is not None:
                prices.append(ModelPrice(provider, name, model.input_price, model.output_price, model.cached_price))
        found = definition.snapshot(prices)
        query_keys = select(DataKey).where(DataKey.id.in_(data_keys_of(found.sealed_values())))
        keys = (await session.execute(query_keys.order_by(DataKey.generation, DataKey.id))).scalars().all()
    found = msgspec.structs.replace(found, data_keys=tuple(WrappedDataKey(key.id, key.wrapped_key) for key in keys))
    # As it comes to a worker.
    return msgspec.json.decode(msgspec.json.encode(found), type=OrchestratorSnapshot)


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def seal_default(resources: Resources, shop: Workshop, plugin_id: str) -> None:
    """A default of the author's, sealed with a key of the platform's."""
    async with resources.database() as session:
        own = (await session.execute(select(DataKey).where(DataKey.org_id == UUID(shop.tenant.org_id)))).scalars().one()
        key = DataKey(id=new_id(), org_id=None, generation=1, wrapped_key="made up")
        session.add(key)
        plugin = await session.get_one(SystemPlugin, UUID(plugin_id))
        sealed = {SEALED_DEFAULT_FIELD: f"v2.{key.id.hex}.c2VhbGVk"}
        plugin.default_settings = {**plugin.default_settings, "api_key": sealed}
        plugin.trusted = True
        session.add(DataKey(id=new_id(), org_id=own.org_id, generation=2, wrapped_key="not used yet"))
        await session.commit()


async def test_a_snapshot_says_field_by_field_what_the_rows_say(
    shop: Workshop, http: httpx.AsyncClient, resources: Resources, root: Caller, world: World
) -> None:
    weather_id = await add_plugin(resources, WEATHER, schema=WEATHER_SETTINGS)
    await add_plugin(resources, OWN, org_id=shop.tenant.org_id, schema=WEATHER_SETTINGS)
    claude = await shop.llm_config(provider="claude", model_name="sonnet", additional_config={"max_retries": 1})
    third = await shop.llm_config(model_name=None, base_url="https://models.example.com/v1")
    prices: list[dict[str, Any]] = [
        {"provider": "openai", "model_name": "gpt-test", "input_price": 0.1, "output_price": 0.2},
        {"provider": "anthropic", "model_name": "sonnet", "input_price": 3, "output_price": 15, "cached_price": 0.3},
        {"provider": "openai", "model_name": "gpt-node", "input_price": 1, "output_price": 2},
        {"provider": "gemini", "model_name": "gpt-node", "input_price": 7, "output_price": 7},
        {"provider": "openai", "model_name": "gpt-free"},
        {"provider": "openai", "model_name": "gpt-other", "input_price": 9, "output_price": 9},
    ]
    for price in prices:
        assert (await root.post("/api/admin/providers/models", price)).status_code == 201
    assert (await set_globally(root, "max_tool_rounds", value=7)).status_code == 200
    assert (await set_globally(root, "run_timeout", value=200)).status_code == 200
    assert (await set_defaults(shop, message_context_window={"value": 8}, run_timeout=150)).status_code == 200
    nodes = {
        "synthesizer_node": {"llm_config_id": third, "model_name": "gpt-node"},
        "supervisor_node": {"model_name": "gpt-free"},
    }
    made = await shop.orchestrator(
        active_plugin_ids=[OWN, shop.calculator_id, WEATHER],
        plugin_settings={OWN: {"api_key": "canary", "units": "imperial"}, WEATHER: {"retries": 4}},
        whoami="A test",
        tier="hot",
        config={
            "default_llm_config_id": shop.llm_config_id,
            "fallback_llm_config_id": claude,
            "default_temperature": 0.5,
            "mode_config": {**nodes, "max_agent_hops": 3},
        },
    )
    await seal_default(resources, shop, weather_id)
    other = await (await Workshop.open(world, resources, calculator_id=shop.calculator_id)).orchestrator()

    snapshot = await snapshot_of(http, made["instance_id"])
    expected = await from_rows(resources, made["instance_id"])
    for name in OrchestratorSnapshot.__struct_fields__:
        assert getattr(snapshot, name) == getattr(expected, name), name
    assert len(snapshot.plugins) == len(snapshot.llm_configs) == len(snapshot.prices) == 3
    assert len(snapshot.data_keys) == 2, "one of the organization and one of the platform"
    assert [plugin.trusted for plugin in snapshot.plugins] == [False, False, True]

    async with resources.database() as session:
        (await session.get_one(LLMConfig, UUID(claude))).is_enabled = False
        await session.commit()
    for instance in (made, other):
        snapshot = await snapshot_of(http, instance["instance_id"])
        assert snapshot == await from_rows(resources, instance["instance_id"])
        assert claude not in snapshot.llm_configs
