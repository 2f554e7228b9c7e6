"""Whatever a model answers, whichever calls it invents and wherever it breaks: a turn ends, within its limits, with an
answer that one writer wrote, or with an error. Driven through what nodes really do, without a framework."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from runtime_worker.engines.base import EngineParts, RunResult
from runtime_worker.engines.choices import model_keys
from runtime_worker.engines.modes.handoff import Node as HandoffNode
from runtime_worker.engines.modes.history import well_formed
from runtime_worker.engines.nodes.modes import MODE_WORKS
from runtime_worker.engines.nodes.run import RunContext
from runtime_worker.engines.nodes.visit import merged
from runtime_worker.engines.telling import Telling
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest, ModelToolCall, Usage
from shared.errors import DomainError, ModelProtocolError, ModelUnavailable
from shared.frameworks import Mode
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import instance_snapshot, llm_config_snapshot, turn
from tests.fakes.plugin_bundle import FunctionBundle, ScopedFunctionBundle

A, B = "com.acme.one", "com.acme.two"
DEFAULT = llm_config_snapshot("http://model.invalid/v1")

decisions: st.SearchStrategy[Mapping[str, Any]] = st.one_of(
    st.builds(lambda name: {"next": name, "task": "t"}, st.sampled_from(["one", "two", "finish", "nobody"])),
    st.builds(lambda ok: {"in_scope": ok}, st.booleans()),
    st.builds(lambda ok: {"is_valid": ok, "reasons": ["r"]}, st.booleans()),
)
texts = st.one_of(st.sampled_from(["", " ", "words", "DONE"]), st.builds(json.dumps, decisions))
calls = st.lists(
    st.builds(
        ModelToolCall,
        id=st.sampled_from(["", "c1", "c2"]),
        name=st.sampled_from(
            [
                "first",
                "second",
                "nothing",
                "facilitator",
                "conversational",
                "transfer_to_two",
                "transfer_to_one",
                "transfer_to_nobody",
            ]
        ),
        arguments=st.sampled_from(["{}", "", "[1]", '{"x": 1', '{"reason": "why"}']),
    ),
    max_size=3,
)
answers = st.builds(
    lambda text, called: ModelAnswer(text, tuple(called), "tool_calls" if called else "stop", Usage(1, 1)),
    texts,
    st.one_of(st.just([]), calls),
)
failures = st.sampled_from([ModelUnavailable(), ModelProtocolError("cut off"), RuntimeError("a bug")])


class AnyModel:
    """Answers with whatever comes next; text is streamed before a failure as before anything else."""

    model_name = "any"

    def __init__(self, script: Sequence[tuple[ModelAnswer, Exception | None]]) -> None:
        self._script = list(script)
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelAnswer:
        self.requests.append(request)
        answer, failure = self._script.pop(0) if self._script else (ModelAnswer("w", (), "stop", Usage()), None)
        if on_delta is not None and answer.content:
            on_delta(answer.content)
        if failure is not None:
            raise failure
        return answer


scripts = st.lists(st.tuples(answers, st.one_of(st.none(), st.none(), st.none(), failures)), max_size=25)


def first() -> str:
    return "1"


def second() -> str:
    return "2"


AGENTS: st.SearchStrategy[str] = st.sampled_from([A, B])
CONFIGS: dict[Mode, st.SearchStrategy[dict[str, Any]]] = {
    Mode.SUPERVISOR: st.fixed_dictionaries(
        {"enabled_llm_validation": st.booleans(), "enabled_clarification_intent": st.booleans()}
    ),
    Mode.COORDINATOR: st.fixed_dictionaries({"consecutive_agent_route_limit": st.integers(1, 2)}),
    Mode.HANDOFF: st.fixed_dictionaries({"entry_agent": AGENTS}),
    Mode.GROUNDED: st.fixed_dictionaries({"enabled_validator": st.booleans()}),
}
limits = st.fixed_dictionaries(
    {
        "max_agent_hops": st.integers(1, 3),
        "max_tool_rounds": st.integers(1, 3),
        "enabled_suggestion": st.booleans(),
        "enabled_parallel_tool_calls": st.booleans(),
    }
)


class Turn(msgspec.Struct):
    result: RunResult | None
    error: DomainError | None
    nodes: list[str]
    max_steps: int
    model: AnyModel
    sink: RecordingSink


async def played(mode: Mode, config: Mapping[str, Any], model: AnyModel, resource_id: str) -> Turn:
    snapshot = instance_snapshot(DEFAULT, mode=mode, mode_config=dict(config))
    if mode is Mode.GROUNDED:
        bundles: tuple[FunctionBundle, ...] = (ScopedFunctionBundle(A, first, second, resources={"known": {"n": 1}}),)
    else:
        bundles = (FunctionBundle(A, first), FunctionBundle(B, second, validated=("second",)))
    work = MODE_WORKS[mode]
    instance = work.instance_of(snapshot, EngineParts(dict.fromkeys(model_keys(snapshot), model), bundles))
    sink = RecordingSink()
    run: RunContext[Any] = RunContext(instance, turn("do it", resource_id=resource_id), Telling(sink))
    played = Turn(None, None, [], instance.policy.max_steps, model, sink)
    state, node = work.begin(run), work.entry
    try:
        while node is not None:
            played.nodes.append(node.value)
            assert len(played.nodes) <= played.max_steps, "the path does not end"
            update, node = await work.visit(node, state, run)
            state = merged(state, update)
        played.result = work.result(state, run)
    except DomainError as error:
        played.error = error
    return played


def writers(sink: RecordingSink) -> set[tuple[str, str]]:
    """The nodes whose text was shown, with the agent that was at work."""
    found, agents = set(), [""]
    for kind, *rest in sink.events:
        match kind:
            case "agent_start":
                agents.append(rest[0])
            case "agent_end":
                agents.pop()
            case "message":
                found.add((agents[-1], rest[1]))
    return found


@pytest.mark.parametrize("mode", Mode)
@given(data=st.data(), script=scripts, config=limits, resource_id=st.sampled_from(["known", "known", "unknown"]))
@settings(max_examples=80)
def test_a_turn_ends_within_its_limits_with_one_writer(
    mode: Mode,
    data: st.DataObject,
    script: list[tuple[ModelAnswer, Exception | None]],
    config: dict[str, Any],
    resource_id: str,
) -> None:
    config |= data.draw(CONFIGS[mode], "config")
    with capture_logs():  # Writing down every bug that is played would take most of the time.
        end = asyncio.run(played(mode, config, AnyModel(script), resource_id))
    end.sink.assert_paired()
    assert len(writers(end.sink)) <= 1
    hops, rounds = config["max_agent_hops"], config["max_tool_rounds"]
    visits = max(1, end.nodes.count(HandoffNode.AGENT.value))
    assert end.nodes.count("control_tools") <= rounds
    assert end.nodes.count("agent_node") <= hops + (mode is Mode.HANDOFF)
    assert len(end.model.requests) <= len(end.nodes) * 2 + visits * rounds
    if end.result is None:
        # Only what broke while somebody was reading it ends a run.
        assert end.sink.text
        return
    assert end.result.answer == end.sink.text != ""
    assert end.result.agent_hops <= hops
    assert well_formed(end.result.tool_messages) == list(end.result.tool_messages)
    for request in end.model.requests:
        exchange = [message for message in request.messages if message.role != "system"]
        assert well_formed(exchange) == exchange, "a provider would refuse this conversation"
        ids = [message.tool_call_id for message in exchange if message.role == "tool"]
        assert len(set(ids)) == len(ids)
