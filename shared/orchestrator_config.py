"""An instance's `config`: its keys, bounds and defaults, and the older names it still accepts.

The control plane validates and normalizes with `parse_config` at save; a worker decodes the stored result with the same
structs, so both always agree on what a key means.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Generic, TypeVar, cast
from uuid import UUID

import msgspec
from msgspec import Meta

from shared.errors import FieldError, InvalidRequest
from shared.frameworks import Mode
from shared.mode_configs import (
    MODE_CONFIGS,
    CoordinatorConfig,
    GroundedConfig,
    HandoffConfig,
    MaxTokens,
    ModeConfig,
    ModelName,
    NodeOverride,
    SupervisorConfig,
    Temperature,
)
from shared.prompts import DEFAULT_PROMPTS, slots

M = TypeVar("M", bound=ModeConfig, covariant=True)


class OrchestratorConfig(msgspec.Struct, Generic[M], frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`config` of an instance, complete; `mode_config` is that of the instance's mode.

    `fallback_llm_config_id` is tried once when a node's own model cannot be reached.
    """

    default_llm_config_id: UUID
    fallback_llm_config_id: UUID | None = None
    default_model_name: ModelName | None = None
    default_temperature: Temperature | None = None
    default_max_tokens: MaxTokens | None = None
    mode_config: M
    conversation_starters: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=500)], ...], Meta(max_length=20)
    ] = ()

    def llm_config_ids(self) -> frozenset[UUID]:
        """Every llm_config the instance refers to."""
        named = (self.fallback_llm_config_id, *(node.llm_config_id for _, node in self.nodes()))
        return frozenset({self.default_llm_config_id, *(config_id for config_id in named if config_id)})

    def nodes(self) -> Iterator[tuple[str, NodeOverride]]:
        """The overrides by node name."""
        for field in self.mode_config.__struct_fields__:
            value = getattr(self.mode_config, field)
            if isinstance(value, NodeOverride):
                yield field, value


AnyConfig = OrchestratorConfig[ModeConfig]

_CONFIGS: dict[Mode, Any] = {mode: OrchestratorConfig[mode_config] for mode, mode_config in MODE_CONFIGS.items()}  # type: ignore[valid-type]

_ALIASES = {
    "parallel_tool_calls": "enabled_parallel_tool_calls",
    "use_llm_validation": "enabled_llm_validation",
    "use_clarification_intent": "enabled_clarification_intent",
    "invoke_timeout": "run_timeout",
    "supervisor_timeout": "node_execution_timeout",
    "max_handoffs": "max_agent_hops",
}
_NODE_ALIASES: dict[Mode, dict[str, str]] = {
    Mode.SUPERVISOR: {
        "router_node": "supervisor_node",
        "planner_node": "supervisor_node",
        "clarifier_node": "facilitator_node",
        "responder_node": "conversational_node",
    },
}
_MODE_KEYS_AT_TOP: tuple[str, ...] = (
    "max_agent_hops",
    "consecutive_agent_route_limit",
    "entry_agent",
    "handoff_instructions",
)


def parse_config(mode: Mode, raw: dict[str, Any], *, field: str = "config") -> AnyConfig:
    """The typed configuration for what an admin sent. Raises InvalidRequest naming the key."""
    renamed = _rename(mode, raw, field)
    try:
        config = read_stored(mode, renamed)
    except msgspec.ValidationError as error:
        raise InvalidRequest("config is not valid", errors=(_field_error(error, field),)) from None
    problems = [
        FieldError(f"{field}.mode_config.{name}.prompt_override", "slots", message)
        for name, node in config.nodes()
        if node.prompt_override and (message := _slot_problem(mode, name, node.prompt_override))
    ]
    if problems:
        raise InvalidRequest("a prompt_override has other slots than the prompt it replaces", errors=tuple(problems))
    return config


def read_stored(mode: Mode, stored: dict[str, Any]) -> AnyConfig:
    """What `to_stored` or `to_given` made of an instance of this mode, what is left out filled in.

    Raises msgspec.ValidationError.
    """
    return cast("AnyConfig", msgspec.convert(stored, _CONFIGS[mode]))


def default_config(mode: Mode, default_llm_config_id: UUID) -> AnyConfig:
    """The configuration of an instance whose admin said nothing but where its model is."""
    return OrchestratorConfig(default_llm_config_id=default_llm_config_id, mode_config=MODE_CONFIGS[mode]())


def to_stored(config: AnyConfig) -> dict[str, Any]:
    """A complete configuration as JSON: new names only, defaults filled in. It is what a worker gets."""
    stored: dict[str, Any] = msgspec.to_builtins(config)
    return stored


def to_given(mode: Mode, config: AnyConfig, raw: dict[str, Any]) -> dict[str, Any]:
    """Of a configuration only what an admin gave, `raw`, under the new names: the rest is inherited and may change.

    `config` is what `parse_config` made of `raw`.
    """
    names, complete = _rename(mode, raw, "config"), to_stored(config)
    given = {name: complete[name] for name in names}
    given["mode_config"] = {name: complete["mode_config"][name] for name in names["mode_config"]}
    return given


def _rename(mode: Mode, raw: dict[str, Any], field: str) -> dict[str, Any]:
    config = dict(raw)
    mode_config = config.get("mode_config", {})
    if not isinstance(mode_config, dict):
        raise InvalidRequest(errors=(FieldError(f"{field}.mode_config", "type", "must be an object"),))
    lifted = {key: config.pop(key) for key in _MODE_KEYS_AT_TOP if key in config}
    aliases = _ALIASES | _NODE_ALIASES.get(mode, {})
    result: dict[str, Any] = {}
    given: list[tuple[str, Any]] = [*lifted.items(), *mode_config.items()]
    for key, value in given:
        name = aliases.get(key, key)
        if name in result:
            where = f"{field}.mode_config.{name}"
            raise InvalidRequest(errors=(FieldError(where, "duplicate", f"given twice, once as {key}"),))
        if isinstance(value, dict) and "prompt" in value:
            if "prompt_override" in value:
                where = f"{field}.mode_config.{name}.prompt_override"
                raise InvalidRequest(errors=(FieldError(where, "duplicate", "given twice, once as prompt"),))
            value = {("prompt_override" if k == "prompt" else k): v for k, v in value.items()}
        # null means "inherit" for a node and "the default" for anything else.
        if value is not None:
            result[name] = value
    config["mode_config"] = result
    return {key: value for key, value in config.items() if value is not None}


def _slot_problem(mode: Mode, node: str, prompt: str) -> str | None:
    default = DEFAULT_PROMPTS[mode].get(node)
    if default is None:
        return "this node has no prompt to replace"
    wanted, given = slots(default), slots(prompt)
    if missing := sorted(wanted - given):
        return f"missing slots: {', '.join(missing)}"
    if unknown := sorted(given - wanted):
        return f"unknown slots: {', '.join(unknown)}"
    return None


def _field_error(error: msgspec.ValidationError, field: str) -> FieldError:
    """msgspec says ``… - at `$.mode_config.max_tool_rounds```; the path becomes the field."""
    message, _, path = str(error).partition(" - at `$")
    return FieldError(field + path.rstrip("`").replace("[...]", ""), "invalid", message)


__all__ = [
    "MODE_CONFIGS",
    "AnyConfig",
    "CoordinatorConfig",
    "GroundedConfig",
    "HandoffConfig",
    "ModeConfig",
    "NodeOverride",
    "OrchestratorConfig",
    "SupervisorConfig",
    "default_config",
    "parse_config",
    "read_stored",
    "to_given",
    "to_stored",
]
