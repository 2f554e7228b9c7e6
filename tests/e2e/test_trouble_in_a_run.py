"""Tools and models that misbehave, through the whole stack: the client sees the contract's events and goes on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.client import Client, Stream
from tests.e2e.tenant import Tenant, plugin_zip
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import EndBody, HangUp, Raw, Text

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

TROUBLE = '''
import asyncio
import time

from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, uvtool


@uvtool
def explode() -> str:
    """Raise."""
    raise RuntimeError("canary-0815 in /etc/passwd")


@uvtool
async def hang() -> str:
    """Wait for ever."""
    await asyncio.Event().wait()


@uvtool
def freeze() -> str:
    """Hold a thread for longer than anybody waits."""
    time.sleep(600)


@uvtool
def greet() -> str:
    """Say hello."""
    return "hello"


class Agent(BaseAgent):
    def get_tools(self):
        return [explode, hang, freeze, greet]


class Plugin(BasePlugin):
    @staticmethod
    def get_metadata():
        return PluginMetadata(pid="{pid}", name="Trouble", version="{version}", description="Misbehaves.")

    @staticmethod
    def create_agent():
        return Agent()
'''
# Only the tools are to be given up quickly.
PATIENT = {"timeout": 30}
QUICK_TOOLS = {"node_execution_timeout": 0.5, "supervisor_node": PATIENT, "synthesizer_node": PATIENT}


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server
    server.assert_done()


@pytest.fixture
async def chat(admin: Client, model: ModelServer) -> Tenant:
    return await Tenant.create(
        admin, model.base_url, package=lambda pid: plugin_zip(pid, source=TROUBLE), mode_config=QUICK_TOOLS
    )


async def test_tools_that_raise_or_hang_end_in_tool_events_and_the_run_goes_on(
    chat: Tenant, model: ModelServer
) -> None:
    model.tools(("explode", {}), ("hang", {}), ("freeze", {}), ("greet", {}))
    model.answer("DONE")
    model.answer("Only ", "greeting worked.")

    run = await chat.client.stream(chat.stream_path, "go")

    assert run.is_completed
    ended = {data["tool"].rpartition(".")[2]: data for data in run.of("tool_end")}
    assert ended["greet"]["result"] == "hello"
    assert {name for name, data in ended.items() if "error" in data} == {"explode", "hang", "freeze"}
    assert {data["call_id"] for data in run.of("tool_start")} == {data["call_id"] for data in run.of("tool_end")}
    assert "/etc/passwd" not in str(run.of("metadata"))
    assert run.text == "Only greeting worked."
    assert await said(chat, run) == ["go", "Only greeting worked."]
    await goes_on(chat, model, run)


@pytest.mark.parametrize(
    ("status", "times", "code"), [(401, 2, "LL-0002"), (429, 6, "LL-0003"), (500, 6, "LL-0005")], ids=str
)
async def test_a_model_that_refuses_is_answered_in_plain_words_with_its_code(
    chat: Tenant, model: ModelServer, status: int, times: int, code: str
) -> None:
    model.fail(status, times=times, message=f"canary-0815 {chat.model_key}")

    run = await chat.client.stream(chat.stream_path, "hi")

    assert run.is_completed
    assert run.last["error_code"] == code
    assert run.text
    assert "canary" not in str(run.events)
    assert chat.model_key not in str(run.events)
    assert await said(chat, run) == ["hi", run.text]
    await goes_on(chat, model, run)


@pytest.mark.parametrize("part", [Raw(b"data: {nope\n\n"), HangUp(), EndBody()], ids=["garbage", "hangs up", "stops"])
async def test_a_model_that_breaks_off_ends_the_stream_with_an_error_and_what_was_shown_is_kept(
    chat: Tenant, model: ModelServer, part: Any
) -> None:
    model.tools(("conversational", {}))
    model.step(Text("The answer is"), part)

    run = await chat.client.stream(chat.stream_path, "hi")

    assert run.names[-1] == "error"
    assert run.last["code"] in ("LL-0005", "LL-0006")
    assert run.last["retryable"] is True
    assert len(run.of("agent_start")) == len(run.of("agent_end"))
    assert await said(chat, run) == ["hi", "The answer is"]
    record = await chat.client.made("GET", f"{chat.org_path}/runs/{run.first['run_id']}")
    assert (record["status"], record["error"]["code"]) == ("failed", run.last["code"])
    await goes_on(chat, model, run)


async def said(tenant: Tenant, run: Stream) -> list[str]:
    path = f"{tenant.org_path}/conversations/{run.first['conversation_id']}/messages"
    return [message["content"] for message in (await tenant.client.made("GET", path))["items"]]


async def goes_on(tenant: Tenant, model: ModelServer, run: Stream) -> None:
    """The conversation is free for its next turn, and that one works."""
    model.tools(("conversational", {}))
    model.answer("Fine.")
    conversation_id = run.first["conversation_id"]
    following = await tenant.client.stream(tenant.stream_path, "again?", conversation_id=conversation_id)
    assert following.is_completed
    assert following.text == "Fine."
