from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from shared.errors import InvalidRequest
from shared.frameworks import Mode
from shared.orchestrator_config import (
    OrchestratorConfig,
    SupervisorConfig,
    default_config,
    parse_config,
    read_stored,
    to_stored,
)
from shared.prompts import DEFAULT_PROMPTS

ID = str(uuid4())


def parsed(**mode_config: Any) -> OrchestratorConfig[SupervisorConfig]:
    raw = {"default_llm_config_id": ID, "mode_config": mode_config}
    return cast("OrchestratorConfig[SupervisorConfig]", parse_config(Mode.SUPERVISOR, raw))


def refused(raw: dict[str, Any], mode: Mode = Mode.SUPERVISOR) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        parse_config(mode, raw)
    error = caught.value.errors[0]
    return error.field, error.message


def test_defaults_are_those_of_the_contract() -> None:
    mode = parsed().mode_config
    assert (mode.node_execution_timeout, mode.run_timeout) == (60, 300)
    assert (mode.message_context_window, mode.max_context_window) == (5, 16_000)
    assert (mode.max_agent_hops, mode.max_tool_rounds) == (10, 3)
    assert (mode.enabled_parallel_tool_calls, mode.enabled_clarification_intent) == (True, True)
    assert (mode.enabled_llm_validation, mode.enabled_suggestion, mode.enabled_auto_compact) == (False, False, True)


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("parallel_tool_calls", "enabled_parallel_tool_calls", False),
        ("use_llm_validation", "enabled_llm_validation", True),
        ("use_clarification_intent", "enabled_clarification_intent", False),
        ("invoke_timeout", "run_timeout", 7),
        ("supervisor_timeout", "node_execution_timeout", 7),
        ("max_handoffs", "max_agent_hops", 7),
    ],
)
def test_older_names_are_stored_under_the_new_ones(old: str, new: str, value: object) -> None:
    stored = to_stored(parsed(**{old: value}))["mode_config"]
    assert stored[new] == value
    assert old not in stored


@pytest.mark.parametrize(
    ("alias", "node"),
    [
        ("router_node", "supervisor_node"),
        ("planner_node", "supervisor_node"),
        ("clarifier_node", "facilitator_node"),
        ("responder_node", "conversational_node"),
    ],
)
def test_older_node_names_are_accepted(alias: str, node: str) -> None:
    assert to_stored(parsed(**{alias: {"temperature": 0}}))["mode_config"][node] == {"temperature": 0}


def test_a_mode_key_at_the_top_level_is_lifted() -> None:
    config = parse_config(Mode.SUPERVISOR, {"default_llm_config_id": ID, "max_agent_hops": 4})
    assert config.mode_config.max_agent_hops == 4


def test_prompt_is_an_older_name_of_prompt_override() -> None:
    prompt = DEFAULT_PROMPTS[Mode.SUPERVISOR]["conversational_node"] + " Be brief."
    assert parsed(conversational_node={"prompt": prompt}).mode_config.conversational_node.prompt_override == prompt


def test_null_inherits_and_zero_is_a_value() -> None:
    mode = parsed(max_tool_rounds=None, synthesizer_node={"temperature": 0, "max_tokens": None}).mode_config
    assert (mode.max_tool_rounds, mode.synthesizer_node.temperature) == (3, 0)
    assert mode.synthesizer_node.max_tokens is None


@pytest.mark.parametrize(
    ("mode_config", "field"),
    [
        ({"max_tool_rounds": 0}, "config.mode_config.max_tool_rounds"),
        ([], "config.mode_config"),
        ({"synthesizer_node": {"timeout": -1}}, "config.mode_config.synthesizer_node.timeout"),
        ({"max_handoffs": 1, "max_agent_hops": 2}, "config.mode_config.max_agent_hops"),
    ],
)
def test_a_refusal_names_the_key(mode_config: Any, field: str) -> None:
    assert refused({"default_llm_config_id": ID, "mode_config": mode_config})[0] == field


def test_an_id_that_is_none_is_refused_by_name() -> None:
    assert refused({"default_llm_config_id": "x"})[0] == "config.default_llm_config_id"


@pytest.mark.parametrize("raw", [{"surprise": 1}, {"mode_config": {"surprise": 1}}])
def test_unknown_keys_are_refused(raw: dict[str, Any]) -> None:
    assert "surprise" in refused({"default_llm_config_id": ID, **raw})[1]


def test_a_prompt_override_has_exactly_the_slots_of_the_prompt_it_replaces() -> None:
    def override(prompt: str) -> tuple[str, str]:
        node = {"conversational_node": {"prompt_override": prompt}}
        return refused({"default_llm_config_id": ID, "mode_config": node})

    assert override("Hi {{whoami}}") == (
        "config.mode_config.conversational_node.prompt_override",
        "missing slots: plugins",
    )
    assert override("{{whoami}} {{plugins}} {{secret}}")[1] == "unknown slots: secret"
    prompt = "{{whoami}} {{plugins}} {0} {x}"
    config = parsed(conversational_node={"prompt_override": prompt})
    assert config.mode_config.conversational_node.prompt_override == prompt


def test_what_is_stored_reads_back_as_the_same() -> None:
    config = parsed(synthesizer_node={"llm_config_id": ID}, max_tool_rounds=5)
    assert read_stored(Mode.SUPERVISOR, to_stored(config)) == config
    assert {str(i) for i in config.llm_config_ids()} == {ID}


@pytest.mark.parametrize(
    ("mode", "defaults"),
    [
        (Mode.SUPERVISOR, {"message_context_window": 5, "max_agent_hops": 10}),
        (
            Mode.COORDINATOR,
            {"message_context_window": 10, "max_agent_hops": 20, "consecutive_agent_route_limit": 5},
        ),
        (Mode.HANDOFF, {"message_context_window": 10, "max_agent_hops": 10, "entry_agent": None}),
        (
            Mode.GROUNDED,
            {"message_context_window": 10, "max_agent_hops": 10, "scope_rules": "", "enabled_validator": True},
        ),
    ],
)
def test_every_mode_has_the_defaults_of_the_contract(mode: Mode, defaults: dict[str, Any]) -> None:
    config = parse_config(mode, {"default_llm_config_id": ID})
    stored = to_stored(config)["mode_config"]
    shared = {
        "node_execution_timeout": 60,
        "run_timeout": 300,
        "max_context_window": 16_000,
        "enabled_auto_compact": True,
        "enabled_suggestion": False,
        "max_tool_rounds": 3,
        "enabled_parallel_tool_calls": True,
    }
    assert {key: stored[key] for key in shared | defaults} == shared | defaults
    assert read_stored(mode, to_stored(config)) == config == default_config(mode, UUID(ID))


@pytest.mark.parametrize(
    ("mode", "mode_config", "key"),
    [
        (Mode.COORDINATOR, {"consecutive_agent_route_limit": 0}, "consecutive_agent_route_limit"),
        (Mode.COORDINATOR, {"max_agent_hops": 101}, "max_agent_hops"),
        (Mode.HANDOFF, {"entry_agent": ""}, "entry_agent"),
        (Mode.GROUNDED, {"enabled_validator": "yes"}, "enabled_validator"),
        (Mode.GROUNDED, {"scope_rules": "x" * 16_001}, "scope_rules"),
    ],
)
def test_the_keys_of_every_mode_have_bounds(mode: Mode, mode_config: dict[str, Any], key: str) -> None:
    field, _ = refused({"default_llm_config_id": ID, "mode_config": mode_config}, mode)
    assert field == f"config.mode_config.{key}"


@pytest.mark.parametrize(
    ("mode", "key", "value"),
    [
        (Mode.SUPERVISOR, "consecutive_agent_route_limit", 3),
        (Mode.COORDINATOR, "entry_agent", "com.a.b"),
        (Mode.HANDOFF, "router_node", {}),
        (Mode.HANDOFF, "enabled_validator", True),
        (Mode.GROUNDED, "enabled_llm_validation", True),
    ],
)
def test_a_key_of_another_mode_is_unknown(mode: Mode, key: str, value: object) -> None:
    assert key in refused({"default_llm_config_id": ID, "mode_config": {key: value}}, mode)[1]


def test_a_node_that_is_an_older_name_in_one_mode_is_itself_in_another() -> None:
    raw = {"default_llm_config_id": ID, "mode_config": {"planner_node": {"temperature": 1}}}
    assert dict(parse_config(Mode.GROUNDED, raw).nodes())["planner_node"].temperature == 1


def test_mode_keys_of_a_handoff_may_stand_at_the_top_level() -> None:
    raw = {"default_llm_config_id": ID, "entry_agent": "com.a.b", "handoff_instructions": "Be kind."}
    stored = to_stored(parse_config(Mode.HANDOFF, raw))["mode_config"]
    assert (stored["entry_agent"], stored["handoff_instructions"]) == ("com.a.b", "Be kind.")


@pytest.mark.parametrize("mode", Mode)
def test_slots_of_an_override_are_checked_in_every_mode(mode: Mode) -> None:
    for node, prompt in DEFAULT_PROMPTS[mode].items():
        override = {node: {"prompt_override": prompt + " {{secret}}"}}
        field, message = refused({"default_llm_config_id": ID, "mode_config": override}, mode)
        assert (field, message) == (f"config.mode_config.{node}.prompt_override", "unknown slots: secret")
        parse_config(mode, {"default_llm_config_id": ID, "mode_config": {node: {"prompt_override": prompt}}})


def test_a_fallback_is_one_of_the_llm_configs_an_instance_refers_to() -> None:
    other = uuid4()
    raw = {"default_llm_config_id": ID, "fallback_llm_config_id": str(other)}
    assert parse_config(Mode.HANDOFF, raw).llm_config_ids() == {UUID(ID), other}
