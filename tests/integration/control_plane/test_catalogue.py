"""Frameworks, providers and the model catalogue."""

from control_plane.wiring import Resources
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.workshop import Workshop

MODEL = {
    "provider": "openai",
    "model_name": "gpt-test",
    "input_price": 0.1,
    "output_price": 2.5,
    "context_window": 128000,
}


async def test_the_whole_matrix_is_shown(world: World) -> None:
    caller = await world.user()

    frameworks = {f["framework_type"]: f for f in (await caller.get("/api/frameworks")).json()["items"]}

    assert set(frameworks) == {"langgraph", "openai_agents", "google_adk"}
    assert frameworks["openai_agents"]["supported_providers"] == ["openai", "litellm", "bifrost"]
    assert frameworks["langgraph"]["supported_modes"] == ["supervisor", "coordinator", "handoff", "grounded"]
    providers = (await caller.get("/api/frameworks/openai_agents/supported-providers")).json()["items"]
    assert [p["provider"] for p in providers] == ["openai", "litellm", "bifrost"]
    assert (await caller.get("/api/frameworks/nothing/supported-providers")).status_code == 404
    assert (await caller.get("/api/providers/nobody/models")).status_code == 404


async def test_a_model_of_the_catalogue_is_kept_with_its_prices(world: World, root: Caller) -> None:
    caller = await world.user()

    created = await root.post("/api/admin/providers/models", MODEL)
    assert created.status_code == 201
    assert (created.json()["input_price"], created.json()["cached_price"]) == (0.1, None)
    path = f"/api/admin/providers/models/{created.json()['id']}"
    assert (await root.post("/api/admin/providers/models", MODEL)).status_code == 409

    chosen = (await caller.get("/api/providers/openai/models")).json()["items"]
    assert [m["model_name"] for m in chosen] == ["gpt-test"]

    old = {"If-Match": created.headers["etag"]}
    changed = await root.patch(path, {"is_enabled": False, "input_price": None}, headers=old)
    assert (changed.json()["is_enabled"], changed.json()["input_price"]) == (False, None)
    assert (await root.patch(path, {"is_enabled": True}, headers=old)).status_code == 412
    assert (await caller.get("/api/providers/openai/models")).json()["items"] == []

    assert (await root.delete(path)).status_code == 204
    assert (await root.get(path)).status_code == 404


async def test_only_the_platform_keeps_the_catalogue(world: World) -> None:
    tenant = await world.tenant()

    assert (await tenant.admin.get("/api/admin/providers/models")).status_code == 403
    assert (await tenant.admin.post("/api/admin/providers/models", MODEL)).status_code == 403


async def test_every_default_prompt_can_be_read_and_sent_back_as_an_override(
    world: World, resources: Resources
) -> None:
    shop = await Workshop.open(world, resources)

    prompts = {p["node"]: p for p in (await shop.member.get("/api/engine/supervisor/prompts")).json()["items"]}

    assert prompts["supervisor_node"]["slots"] == ["plugins", "signals"]
    assert prompts["autocompact"]["slots"] == []
    overrides = {node: {"prompt_override": prompt["template"] + " Be kind."} for node, prompt in prompts.items()}
    await shop.orchestrator(config={"default_llm_config_id": shop.llm_config_id, "mode_config": overrides})
    assert (await shop.member.get("/api/engine/swarm/prompts")).status_code == 404
