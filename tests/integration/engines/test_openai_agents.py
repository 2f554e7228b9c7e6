"""What is the Agents SDK's own. What every engine promises is in `tests/contract/engine_suite.py`."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from agents import Agent, Handoff, Span, Trace, TracingProcessor, add_trace_processor, set_tracing_disabled
from agents import _run_state_agent_identity as identity

from runtime_worker.engines.base import Orchestrator
from runtime_worker.engines.modes.handoff import NO_SUCH_AGENT, TRANSFERRED
from runtime_worker.engines.openai_agents.tracing import turn_off_tracing
from runtime_worker.models.registry import ModelRegistry
from runtime_worker.plugins.base import PluginTool
from shared.frameworks import Framework, Mode, Provider
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import build, instance_snapshot, llm_config_snapshot, turn
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_bundle import FunctionBundle
from tests.integration.engines.conftest import add


class BuiltOnAgents(Protocol):
    async def __call__(self, mode: Mode, *bundles: FunctionBundle, **mode_config: Any) -> Orchestrator: ...


@pytest.fixture
def built(model_server: ModelServer, model_registry: ModelRegistry) -> BuiltOnAgents:
    async def build_one(mode: Mode, *bundles: FunctionBundle, **mode_config: Any) -> Orchestrator:
        config = llm_config_snapshot(model_server.base_url, provider=Provider.LITELLM)
        snapshot = instance_snapshot(config, framework=Framework.OPENAI_AGENTS, mode=mode, mode_config=mode_config)
        return await build(model_registry, snapshot, bundles or (FunctionBundle("com.acme.calc", add),))

    return build_one


def upper(text: str) -> str:
    """Write a text in capital letters."""
    return text.upper()


@pytest.fixture
def peers() -> tuple[FunctionBundle, FunctionBundle]:
    return FunctionBundle("com.acme.calc", add), FunctionBundle("com.acme.words", upper)


async def test_the_picture_shows_what_is_wired(built: BuiltOnAgents) -> None:
    plain = (await built(Mode.SUPERVISOR)).mermaid()
    validated = (await built(Mode.SUPERVISOR, enabled_llm_validation=True, enabled_suggestion=True)).mermaid()
    assert "supervisor_node -.-> control_tools" in plain
    assert "validation_node" not in plain
    assert "validation_node -.-> facilitator_node" in validated
    assert "synthesizer_node -.-> suggestion_node" in validated
    assert "suggestion_node --> __end__" in validated


async def test_the_picture_names_every_plugin_agent(
    built: BuiltOnAgents, peers: tuple[FunctionBundle, FunctionBundle]
) -> None:
    coordinator = (await built(Mode.COORDINATOR, *peers)).mermaid()
    assert "coordinator_node -.-> words_agent" in coordinator
    assert "words_agent -.-> coordinator_node" in coordinator
    assert "words_agent -.-> calc_agent" not in coordinator
    handoff = (await built(Mode.HANDOFF, *peers)).mermaid()
    assert "calc_agent -.-> words_agent" in handoff
    assert "words_agent -.-> calc_agent" in handoff
    assert "calc_agent -.-> calc_agent" not in handoff


async def test_of_two_transfers_the_one_that_the_policy_accepts_becomes_the_handoff(
    built: BuiltOnAgents, model_server: ModelServer, peers: tuple[FunctionBundle, FunctionBundle]
) -> None:
    model_server.tools(("transfer_to_nobody", {}, "a"), ("add", {"a": 1, "b": 1}, "b"), ("transfer_to_words", {}, "c"))
    model_server.answer("HI")
    sink = RecordingSink()
    result = await (await built(Mode.HANDOFF, *peers)).run(turn("shout hi"), sink)
    assert (result.answer, result.current_agent, result.agent_hops) == ("HI", "com.acme.words", 1)
    assert model_server.last.tool_results == [NO_SUCH_AGENT, "2", TRANSFERRED]
    assert model_server.calls[0].tool_names == ["add", "transfer_to_words"]
    assert model_server.last.tool_names == ["upper", "transfer_to_calc"]


async def test_a_name_that_the_sdk_takes_for_its_own_is_unknown_like_any_other(
    built: BuiltOnAgents, model_server: ModelServer
) -> None:
    """The SDK raises for a call of `apply_patch` where it did not give the agent its own tool of that name."""
    model_server.tools(("apply_patch", {"type": "update_file", "path": "a", "diff": "b"}))
    model_server.answer("DONE")
    model_server.answer("I cannot patch files.")
    result = await (await built(Mode.SUPERVISOR)).run(turn("patch it"), RecordingSink())
    assert (result.answer, result.error_code) == ("I cannot patch files.", None)
    (told,) = model_server.last.tool_results
    assert "no tool named 'apply_patch'" in told
    asked = [call["function"]["name"] for m in model_server.last.messages for call in m.get("tool_calls") or ()]
    assert asked == ["apply_patch"]


async def test_tools_that_change_after_the_build_are_offered_from_the_next_turn_on(
    built: BuiltOnAgents, model_server: ModelServer
) -> None:
    bundle = FunctionBundle("com.acme.calc", add)
    orchestrator = await built(Mode.HANDOFF, bundle)
    bundle.tools = (*bundle.tools, PluginTool("com.acme.calc", "subtract", "Subtract.", {}))
    model_server.answer("Hi")
    await orchestrator.run(turn("hi"), RecordingSink())
    assert model_server.last.tool_names == ["add", "subtract"]


@pytest.fixture
def written_out(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the SDK writes out of agents, to tell those of one name apart."""
    parts: list[object] = []
    write_out = identity._normalize_identity_value

    def watched(value: object) -> object:
        parts.append(value)
        return write_out(value)

    monkeypatch.setattr(identity, "_normalize_identity_value", watched)
    return parts


async def test_a_run_does_not_write_out_what_its_agents_are_made_of(
    built: BuiltOnAgents,
    model_server: ModelServer,
    peers: tuple[FunctionBundle, FunctionBundle],
    written_out: list[object],
) -> None:
    model_server.tools(("transfer_to_words", {}))
    model_server.answer("HI")
    result = await (await built(Mode.HANDOFF, *peers)).run(turn("shout hi"), RecordingSink())
    assert (result.current_agent, written_out) == ("com.acme.words", [])


async def test_agents_that_are_not_an_instances_are_told_apart_as_ever(
    built: BuiltOnAgents, written_out: list[object]
) -> None:
    await built(Mode.HANDOFF)
    peer = Agent[Any](name="one", instructions="other")
    told_apart = identity._build_agent_identity_map(Agent[Any](name="one", handoffs=_handoffs(peer)))
    assert (told_apart["one#2"], "other" in written_out) == (peer, True)


def _handoffs(*agents: Agent[Any]) -> list[Agent[Any] | Handoff[Any, Any]]:
    return [*agents]


class RecordingProcessor(TracingProcessor):
    def __init__(self) -> None:
        self.recorded: list[object] = []

    def on_trace_start(self, trace: Trace) -> None:
        self.recorded.append(trace)

    def on_trace_end(self, trace: Trace) -> None: ...

    def on_span_start(self, span: Span[Any]) -> None:
        self.recorded.append(span)

    def on_span_end(self, span: Span[Any]) -> None: ...

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...


@pytest.fixture
def somebody_who_traces() -> Iterator[RecordingProcessor]:
    """Somebody in the process, a library say, who turns tracing on again and listens."""
    turn_off_tracing()
    processor = RecordingProcessor()
    add_trace_processor(processor)
    set_tracing_disabled(False)
    yield processor
    turn_off_tracing()


async def test_a_run_is_not_traced_even_where_others_trace(
    built: BuiltOnAgents, model_server: ModelServer, somebody_who_traces: RecordingProcessor
) -> None:
    orchestrator = await built(Mode.SUPERVISOR)
    set_tracing_disabled(False)
    add_trace_processor(somebody_who_traces)
    model_server.tools(("add", {"a": 1, "b": 1}))
    model_server.answer("DONE")
    model_server.answer("2")
    await orchestrator.run(turn("1+1"), RecordingSink())
    assert somebody_who_traces.recorded == []
