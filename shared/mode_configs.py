"""`mode_config` of the four modes: keys, bounds and defaults, as the engine contract has them."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from shared.frameworks import Mode
from shared.prompts import DEFAULT_HANDOFF_INSTRUCTIONS

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
MaxTokens = Annotated[int, Meta(ge=1, le=1_000_000)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Prompt = Annotated[str, Meta(min_length=1, max_length=32_000)]
Hops = Annotated[int, Meta(ge=1, le=100)]


class NodeOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one node does differently; None inherits. `timeout` is in seconds."""

    llm_config_id: UUID | None = None
    model_name: ModelName | None = None
    prompt_override: Prompt | None = None
    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    timeout: Seconds | None = None


class ModeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every mode has. `max_tool_rounds` counts per plugin agent where a mode has agents of its own.

    `node_execution_timeout` bounds each call of a node's model and each tool call; answer nodes have twice that.
    """

    node_execution_timeout: Seconds = 60
    run_timeout: Seconds = 300
    message_context_window: Annotated[int, Meta(ge=0, le=200)] = 10
    max_context_window: Annotated[int, Meta(ge=256, le=2_000_000)] = 16_000
    enabled_auto_compact: bool = True
    enabled_suggestion: bool = False
    max_agent_hops: Hops = 10
    max_tool_rounds: Annotated[int, Meta(ge=1, le=50)] = 3
    enabled_parallel_tool_calls: bool = True
    error_handler_node: NodeOverride = NodeOverride()
    autocompact: NodeOverride = NodeOverride()
    suggestion_node: NodeOverride = NodeOverride()


class SupervisorConfig(ModeConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    message_context_window: Annotated[int, Meta(ge=0, le=200)] = 5
    enabled_llm_validation: bool = False
    enabled_clarification_intent: bool = True
    supervisor_node: NodeOverride = NodeOverride()
    validation_node: NodeOverride = NodeOverride()
    synthesizer_node: NodeOverride = NodeOverride()
    facilitator_node: NodeOverride = NodeOverride()
    conversational_node: NodeOverride = NodeOverride()


class CoordinatorConfig(ModeConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`agent_node` is what every plugin agent does differently."""

    max_agent_hops: Hops = 20
    consecutive_agent_route_limit: Hops = 5
    coordinator_node: NodeOverride = NodeOverride()
    agent_node: NodeOverride = NodeOverride()
    synthesizer_node: NodeOverride = NodeOverride()
    suspend_node: NodeOverride = NodeOverride()


class HandoffConfig(ModeConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`entry_agent` is the pid of the plugin that takes a conversation's first turn, None the first plugin."""

    entry_agent: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    handoff_instructions: Annotated[str, Meta(max_length=8_000)] = DEFAULT_HANDOFF_INSTRUCTIONS
    agent_node: NodeOverride = NodeOverride()


class GroundedConfig(ModeConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`scope_rules` says what conversations may be about; empty leaves it to the plugin's `build_scope_rules`."""

    scope_rules: Annotated[str, Meta(max_length=16_000)] = ""
    enabled_validator: bool = True
    router_node: NodeOverride = NodeOverride()
    planner_node: NodeOverride = NodeOverride()
    synthesizer_node: NodeOverride = NodeOverride()
    validation_node: NodeOverride = NodeOverride()


MODE_CONFIGS: dict[Mode, type[ModeConfig]] = {
    Mode.SUPERVISOR: SupervisorConfig,
    Mode.COORDINATOR: CoordinatorConfig,
    Mode.HANDOFF: HandoffConfig,
    Mode.GROUNDED: GroundedConfig,
}
