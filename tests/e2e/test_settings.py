"""Settings on the whole stack: what an admin says on one port is what the running workers go by, without a reload."""

import asyncio

import pytest

from tests.e2e.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

SETTLED_SECONDS = 30
QUESTION = "What is 12.5 plus 30?"


async def test_what_an_organization_sets_is_what_its_orchestrators_do_next(tenant: Tenant) -> None:
    client = tenant.client
    first = await client.stream(tenant.stream_path, QUESTION)
    assert first.is_completed
    assert first.of("suggestion") == []

    defaults = {"settings": {"enabled_suggestion": {"value": True}}}
    await client.made("PUT", f"{tenant.org_path}/orchestrator-defaults", json=defaults)
    await tenant.until_ready()
    values = (await client.made("GET", f"{tenant.path}/effective-config"))["values"]
    assert values["config.mode_config.enabled_suggestion"] == {"value": True, "source": "organization"}
    second = await client.stream(tenant.stream_path, QUESTION)
    assert second.of("suggestion"), "the next run suggests something"
    assert second.first["config_hash"] == (await tenant.get())["config_hash"] != first.first["config_hash"]
    graph = (await client.made("GET", f"{tenant.path}/graph"))["mermaid"]
    assert "suggestion_node" in graph, "and the picture shows what is wired now"

    await client.made("POST", f"{tenant.org_path}/settings", json={"settings": {"max_message_chars": 5}})
    async with asyncio.timeout(SETTLED_SECONDS):
        while (answer := await client.call("POST", tenant.stream_path, json={"message": QUESTION})).status != 422:
            await asyncio.sleep(0.05)
    assert answer.body["errors"][0]["field"] == "message"


async def test_a_chat_client_finds_what_a_user_could_begin_with(tenant: Tenant) -> None:
    config = {"default_llm_config_id": tenant.llm_config_id, "conversation_starters": [QUESTION]}
    await tenant.client.made("PATCH", f"{tenant.path}/config", json={"config": config})
    await tenant.until_ready()
    assert await tenant.client.made("GET", f"{tenant.path}/completion/starters") == {"starters": [QUESTION]}
