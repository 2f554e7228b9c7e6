"""An instance's `config`: its keys, bounds and defaults, and the older names it still accepts.

The control plane validates and normalizes with `parse_config` at save; a worker decodes the stored result with the same
structs, so both always agree on what a key means.
"""

from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from shared.errors import FieldError, InvalidRequest
from shared.frameworks import Mode
from shared.prompts import DEFAULT_PROMPTS, slots

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
MaxTokens = Annotated[int, Meta(ge=1, le=1_000_000)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Prompt = Annotated[str, Meta(min_length=1, max_length=32_000)]


class NodeOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one node does differently; None inherits. `timeout` is in seconds."""

    llm_config_id: UUID | None = None
    model_name: ModelName | None = None
    prompt_override: Prompt | None = None
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    timeout: Seconds | None = None


class SupervisorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`mode_config` of a supervisor. Defaults are those of the engine contract."""

    node_execution_timeout: Seconds = 60
    run_timeout: Seconds = 300
    message_context_window: Annotated[int, Meta(ge=0, le=200)] = 5
    max_context_window: Annotated[int, Meta(ge=256, le=2_000_000)] = 16_000
    enabled_auto_compact: bool = True
    enabled_suggestion: bool = False
    max_agent_hops: Annotated[int, Meta(ge=1, le=100)] = 10
    max_tool_rounds: Annotated[int, Meta(ge=1, le=50)] = 3
    enabled_parallel_tool_calls: bool = True
    enabled_llm_validation: bool = False
    enabled_clarification_intent: bool = True
    supervisor_node: NodeOverride = NodeOverride()
    validation_node: NodeOverride = NodeOverride()
    synthesizer_node: NodeOverride = NodeOverride()
    facilitator_node: NodeOverride = NodeOverride()
    conversational_node: NodeOverride = NodeOverride()
    error_handler_node: NodeOverride = NodeOverride()
    autocompact: NodeOverride = NodeOverride()
    suggestion_node: NodeOverride = NodeOverride()


class OrchestratorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config` of a supervisor instance, complete."""

    default_llm_config_id: UUID
    default_model_name: ModelName | None = None
    default_temperature: Temperature | None = None
    default_max_tokens: MaxTokens | None = None
    mode_config: SupervisorConfig = SupervisorConfig()
    conversation_starters: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=500)], ...], Meta(max_length=20)
    ] = ()

    def llm_config_ids(self) -> frozenset[UUID]:
        """Every llm_config the instance refers to."""
        return frozenset({self.default_llm_config_id, *(n.llm_config_id for _, n in self.nodes() if n.llm_config_id)})

    def nodes(self) -> Iterator[tuple[str, NodeOverride]]:
        """The overrides by node name."""
        for field in self.mode_config.__struct_fields__:
            value = getattr(self.mode_config, field)
            if isinstance(value, NodeOverride):
                yield field, value


_ALIASES = {
    "parallel_tool_calls": "enabled_parallel_tool_calls",
    "use_llm_validation": "enabled_llm_validation",
    "use_clarification_intent": "enabled_clarification_intent",
    "invoke_timeout": "run_timeout",
    "supervisor_timeout": "node_execution_timeout",
    "max_handoffs": "max_agent_hops",
    "router_node": "supervisor_node",
    "planner_node": "supervisor_node",
    "clarifier_node": "facilitator_node",
    "responder_node": "conversational_node",
}
_MODE_KEYS_AT_TOP: tuple[str, ...] = (
    "max_agent_hops",
    "consecutive_agent_route_limit",
    "entry_agent",
    "handoff_instructions",
)


def parse_config(mode: Mode, raw: dict[str, Any], *, field: str = "config") -> OrchestratorConfig:
    """The typed configuration for what an admin sent. Raises InvalidRequest naming the key.

    Only the supervisor mode has a configuration type so far; `require_runnable` has refused the others before this.
    """
    renamed = _rename(raw, field)
    try:
        config = msgspec.convert(renamed, OrchestratorConfig)
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


def to_stored(config: OrchestratorConfig) -> dict[str, Any]:
    """What is stored, hashed and shown: new names only, defaults filled in."""
    stored: dict[str, Any] = msgspec.to_builtins(config)
    return stored


def _rename(raw: dict[str, Any], field: str) -> dict[str, Any]:
    config = dict(raw)
    mode_config = config.get("mode_config", {})
    if not isinstance(mode_config, dict):
        raise InvalidRequest(errors=(FieldError(f"{field}.mode_config", "type", "must be an object"),))
    lifted = {key: config.pop(key) for key in _MODE_KEYS_AT_TOP if key in config}
    result: dict[str, Any] = {}
    given: list[tuple[str, Any]] = [*lifted.items(), *mode_config.items()]
    for key, value in given:
        name = _ALIASES.get(key, key)
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
