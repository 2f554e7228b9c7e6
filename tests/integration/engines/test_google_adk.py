"""What is ADK's own. What every engine promises is in `tests/contract/engine_suite.py`."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest
from google.adk.sessions import InMemorySessionService

from runtime_worker.engines.google_adk.engine import AdkOrchestrator
from runtime_worker.models.registry import ModelRegistry
from runtime_worker.plugins.base import PluginTool
from shared.errors import ModelUnavailable
from shared.frameworks import Framework, Mode, Provider
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import build, instance_snapshot, llm_config_snapshot, turn
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import Raw, Stall, Text, sse
from tests.fakes.plugin_bundle import FunctionBundle
from tests.integration.engines.conftest import add


class BuiltOnAdk(Protocol):
    async def __call__(self, mode: Mode, *bundles: FunctionBundle, **mode_config: Any) -> AdkOrchestrator: ...


@pytest.fixture
def built(model_server: ModelServer, model_registry: ModelRegistry) -> BuiltOnAdk:
    async def build_one(mode: Mode, *bundles: FunctionBundle, **mode_config: Any) -> AdkOrchestrator:
        config = llm_config_snapshot(model_server.base_url, provider=Provider.LITELLM)
        snapshot = instance_snapshot(config, framework=Framework.GOOGLE_ADK, mode=mode, mode_config=mode_config)
        orchestrator = await build(model_registry, snapshot, bundles or (FunctionBundle("com.acme.calc", add),))
        assert isinstance(orchestrator, AdkOrchestrator)
        return orchestrator

    return build_one


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[InMemorySessionService]:
    """Every session service that is made from now on."""
    made: list[InMemorySessionService] = []
    init = InMemorySessionService.__init__

    def remember(service: InMemorySessionService) -> None:
        init(service)
        made.append(service)

    monkeypatch.setattr(InMemorySessionService, "__init__", remember)
    return made


def open_sessions(services: list[InMemorySessionService]) -> list[str]:
    return [
        session_id
        for service in services
        for users in service.sessions.values()
        for sessions in users.values()
        for session_id in sessions
    ]


async def test_a_session_ends_with_its_turn_however_that_ends(
    sessions: list[InMemorySessionService], built: BuiltOnAdk, model_server: ModelServer
) -> None:
    orchestrator = await built(Mode.HANDOFF)
    model_server.answer("Hi")
    await orchestrator.run(turn("hi"), RecordingSink())
    model_server.step(Text("half"), Raw(sse({"error": {"code": 500}})))
    with pytest.raises(ModelUnavailable):
        await orchestrator.run(turn("hi"), RecordingSink())
    model_server.step(Text("half"), Stall())
    running = asyncio.create_task(orchestrator.run(turn("hi"), RecordingSink()))
    await model_server.wait_for_calls(3)
    assert len(open_sessions(sessions)) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert open_sessions(sessions) == []
    assert all(len(users) == 1 for service in sessions for users in service.sessions.values())


async def test_calls_of_one_reply_that_share_an_id_get_their_own_results(
    built: BuiltOnAdk, model_server: ModelServer
) -> None:
    model_server.tools(("add", {"a": 1, "b": 1}, "call_0"), ("add", {"a": 2, "b": 2}, "call_0"))
    model_server.tools(("add", {"a": 3, "b": 3}, "call_0"))
    model_server.answer("DONE")
    model_server.answer("2, 4, 6")
    result = await (await built(Mode.SUPERVISOR)).run(turn("go"), RecordingSink())
    results = {m.tool_call_id: m.content for m in result.tool_messages if m.role == "tool"}
    assert list(results.values()) == ["2", "4", "6"]


NAMES_OF_ADK = (
    "transfer_to_agent",
    "set_model_response",
    "finish_task",
    "adk_request_credential",
    "adk_request_confirmation",
    "adk_request_input",
)


@pytest.mark.parametrize("name", NAMES_OF_ADK)
async def test_a_plugin_may_call_its_tools_what_adk_calls_its_own(
    built: BuiltOnAdk, model_server: ModelServer, name: str
) -> None:
    def tool(agent_name: str) -> str:
        return f"called with {agent_name}"

    tool.__name__ = name
    model_server.tools((name, {"agent_name": "supervisor_node"}))
    model_server.answer("DONE")
    model_server.answer("done")
    sink = RecordingSink()
    result = await (await built(Mode.SUPERVISOR, FunctionBundle("com.a.b", tool))).run(turn("go"), sink)
    assert [m.content for m in result.tool_messages if m.role == "tool"] == ["called with supervisor_node"]
    assert (result.answer, result.error_code) == ("done", None)


async def test_agents_may_have_names_that_are_no_identifiers(built: BuiltOnAdk, model_server: ModelServer) -> None:
    orchestrator = await built(
        Mode.HANDOFF, FunctionBundle("com.acme.2-fast", add), FunctionBundle("com.acme.user", add)
    )
    model_server.tools(("transfer_to_user", {}))
    model_server.answer("Here I am")
    result = await orchestrator.run(turn("hi"), RecordingSink())
    assert (result.answer, result.current_agent) == ("Here I am", "com.acme.user")


async def test_the_picture_shows_what_is_wired(built: BuiltOnAdk) -> None:
    plain = (await built(Mode.SUPERVISOR)).mermaid()
    validated = (await built(Mode.SUPERVISOR, enabled_llm_validation=True, enabled_suggestion=True)).mermaid()
    assert "supervisor_node -.-> control_tools" in plain
    assert "control_tools -.-> error_handler_node" in plain
    assert "validation_node" not in plain
    assert "validation_node -.-> facilitator_node" in validated
    assert "synthesizer_node -.-> suggestion_node" in validated


async def test_the_picture_shows_every_plugin_agent(built: BuiltOnAdk) -> None:
    plugins = FunctionBundle("com.acme.sums", add), FunctionBundle("com.acme.more-sums", add)
    coordinator = (await built(Mode.COORDINATOR, *plugins)).mermaid()
    assert "coordinator_node -.-> agent_1_sums" in coordinator
    assert "agent_2_more_sums -.-> coordinator_node" in coordinator
    handoff = (await built(Mode.HANDOFF, *plugins)).mermaid()
    assert "agent_1_sums -.-> agent_2_more_sums" in handoff
    assert "agent_1_sums -.-> agent_1_sums" not in handoff
    assert "__start__ -.-> agent_2_more_sums" in handoff


async def test_an_instance_follows_the_tools_of_its_plugins(built: BuiltOnAdk, model_server: ModelServer) -> None:
    calc = FunctionBundle("com.acme.calc", add)
    orchestrator = await built(Mode.SUPERVISOR, calc)
    calc.tools = (*calc.tools, PluginTool(calc.pid, "subtract", "Subtract.", {"type": "object", "properties": {}}))
    model_server.tools(("conversational", {}))
    model_server.answer("Hi")
    await orchestrator.run(turn("hi"), RecordingSink())
    assert "subtract" in model_server.calls[0].tool_names


def test_nothing_of_a_conversation_is_in_what_adk_reports_about_itself() -> None:
    captures = {
        "ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS": "true",
        "ADK_TELEMETRY_IGNORE_RUN_CONFIG": "true",
        "ADK_EXPERIMENTAL_TELEMETRY": "true",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tests.integration.engines.adk_reports"],
        env={**os.environ, **captures},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    reports = json.loads(ended.stdout.splitlines()[-1])
    assert reports["answer"] == "SECRET answer"
    assert "supervisor_node" in reports["spans"], "nothing was reported, so nothing was looked at"
    assert "SECRET" not in reports["spans"] + reports["logs"]
