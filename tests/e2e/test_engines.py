"""Every combination of framework and mode, from its creation to its end, on one running stack."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from shared.frameworks import COMBINATIONS, Framework, Mode, Provider
from tests.contract.engines.moves import ScenarioModel, decides
from tests.e2e.client import Client, Stream
from tests.e2e.tenant import READY_SECONDS, Tenant
from tests.fakes.model_call import ModelCall
from tests.fakes.model_steps import Part, Pause, Text, ToolCalls
from tests.fakes.plugin_packages import package

# The whole stack may have to start for it, on a machine that is busy with other tests.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300)]

PROVIDER = Provider.LITELLM
ANSWER = "The sum is 42."
SCOPED_AGENT = """
async def load_anchor(self, resource_id):
    return {"id": resource_id, "name": "the sums"}

def build_scope_rules(self, context):
    return "Sums."
"""
CHATS_UNDER_CHANGE = 3
PAUSE_SECONDS = 0.2


def answered(call: ModelCall) -> list[Part]:
    """What a sensible model says to anything that a mode asks: use the tool once, then tell what it found."""
    has_result, has_report = bool(call.tool_results), "Reports of the agents so far" in str(call.messages)
    schema = call.body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    match schema.get("properties", {}):
        case {"next": {"enum": [agent, *_, finish]}}:
            return [Text(msgspec.json.encode({"next": finish if has_report else agent, "task": "Add."}).decode())]
        case {"in_scope": _}:
            return [Text('{"in_scope": true, "reason": ""}')]
        case {"is_valid": _}:
            return [Text('{"is_valid": true, "reasons": []}')]
    if "add" in call.tool_names and not has_result and call.body.get("tool_choice") != "none":
        return [ToolCalls([("add", {"a": 12, "b": 30})])]
    return [part for word in ("The ", "sum ", "is ", "42.") for part in (Text(word), Pause(0.02))]


@pytest.fixture
async def sensible_model() -> AsyncIterator[str]:
    async with ScenarioModel() as model:
        model.serve(decides(answered, times=None).step())
        yield model.base_url


class Life(msgspec.Struct):
    """One instance of a combination, and what a member sees of it."""

    tenant: Tenant
    mode: Mode
    path: str

    @classmethod
    async def created(cls, tenant: Tenant, framework: Framework, mode: Mode) -> "Life":
        body = {
            "name": f"{framework} {mode}",
            "framework_type": framework,
            "mode": mode,
            "active_plugin_ids": [tenant.plugin_id],
            "tier": "hot",
            "whoami": "You add numbers.",
            "config": {"default_llm_config_id": tenant.llm_config_id},
        }
        made = await tenant.client.made("POST", f"{tenant.org_path}/orchestrators", json=body)
        return cls(tenant, mode, f"{tenant.org_path}/orchestrators/{made['instance_id']}")

    async def chat(self, **body: Any) -> Stream:
        if self.mode is Mode.GROUNDED:
            body["resource_id"] = "sums"
        return await self.tenant.client.stream(f"{self.path}/completion/stream", "What is 12 plus 30?", **body)

    async def loaded(self) -> None:
        # Answered when it is done: twelve that ask all the time take from the workers what these need to build them.
        await self.tenant.client.made("POST", f"{self.path}/load?wait=applied", json={"tier": "hot"})
        async with asyncio.timeout(READY_SECONDS):
            while not (await self.tenant.client.made("GET", self.path))["is_ready"]:
                await asyncio.sleep(PAUSE_SECONDS)

    async def changed(self, change: Mapping[str, Any]) -> str:
        """The new configuration's hash."""
        answer = await self.tenant.client.made("PATCH", self.path, json=dict(change))
        return str(answer["config_hash"])

    async def unloaded(self) -> None:
        """The load and its opposite are answered before they are done."""
        assert (await self.tenant.client.call("POST", f"{self.path}/unload")).status == 202
        async with asyncio.timeout(READY_SECONDS):
            while (await self.chat()).status != 503:
                await asyncio.sleep(PAUSE_SECONDS)


async def live(tenant: Tenant, framework: Framework, mode: Mode) -> None:
    life = await Life.created(tenant, framework, mode)
    await life.loaded()
    first = await life.chat()
    assert_answered(first)
    assert [data["tool"] for data in first.of("tool_start")] == [f"{tenant.pid}.add"]
    assert_answered(await life.chat(conversation_id=first.first["conversation_id"]))
    await reconfigured(life)
    await life.unloaded()


async def reconfigured(life: Life) -> None:
    """Chats go on while the configuration changes, each on the one it began with, and the next ones are on the new."""
    before = (await life.chat()).first["config_hash"]
    chats = [asyncio.create_task(life.chat()) for _ in range(CHATS_UNDER_CHANGE)]
    after = await life.changed({"whoami": "You add numbers, politely."})
    assert after != before
    for chat in await asyncio.gather(*chats):
        assert_answered(chat)
        assert chat.first["config_hash"] in (before, after)
    async with asyncio.timeout(READY_SECONDS):
        while (await life.chat()).first["config_hash"] != after:
            await asyncio.sleep(PAUSE_SECONDS)


def assert_answered(chat: Stream) -> None:
    assert chat.is_completed, chat
    assert chat.text == ANSWER
    assert "error_code" not in chat.last


async def test_every_combination_lives_from_its_creation_to_its_end(admin: Client, sensible_model: str) -> None:
    tenant = await Tenant.create(
        admin,
        sensible_model,
        provider=PROVIDER,
        package=lambda pid: package(pid=pid, base="BaseScopedAgent", agent=SCOPED_AGENT),
    )
    async with asyncio.TaskGroup() as group:
        for framework, mode in COMBINATIONS:
            group.create_task(live(tenant, framework, mode))
