"""Which model each node of an instance talks to, as the configuration and the llm_configs say together."""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from runtime_worker.engines.base import ModelChoice
from runtime_worker.models.base import ModelClient
from shared.errors import LLMConfigDisabled, OrchestratorBuildFailed
from shared.orchestrator_config import NodeOverride, OrchestratorConfig
from shared.snapshots import LLMConfigSnapshot, OrchestratorSnapshot

ModelKey = tuple[UUID, str]
"""`(llm_config_id, model_name)`, the key of `EngineParts.models`."""


def typed_config(snapshot: OrchestratorSnapshot) -> OrchestratorConfig:
    """The snapshot's `config` as the structs that the control plane checked it with."""
    try:
        return msgspec.convert(snapshot.config, OrchestratorConfig)
    except msgspec.ValidationError as error:
        raise OrchestratorBuildFailed(f"the stored configuration cannot be read: {error}") from None


def model_keys(snapshot: OrchestratorSnapshot) -> frozenset[ModelKey]:
    """Every model the pool has to acquire before it builds this instance. Raises OrchestratorBuildFailed."""
    config = typed_config(snapshot)
    return frozenset(model_key(snapshot, config, override) for _, override in config.nodes())


def model_key(snapshot: OrchestratorSnapshot, config: OrchestratorConfig, override: NodeOverride) -> ModelKey:
    """The model of one node: its own name, its own llm_config's, the instance's, the default config's."""
    own = llm_config(snapshot, override.llm_config_id) if override.llm_config_id else None
    default = llm_config(snapshot, config.default_llm_config_id)
    name = override.model_name or (own and own.model_name) or config.default_model_name or default.model_name
    if not name:
        raise OrchestratorBuildFailed("no model name: neither the config nor its llm_config names one")
    return (own or default).id, name


def llm_config(snapshot: OrchestratorSnapshot, config_id: UUID) -> LLMConfigSnapshot:
    """Raises LLMConfigDisabled."""
    try:
        return snapshot.llm_configs[str(config_id)]
    except KeyError:
        # Snapshots leave out exactly those that are disabled; one in use cannot be deleted.
        raise LLMConfigDisabled(f"llm_config {config_id} is disabled") from None


def choose(
    snapshot: OrchestratorSnapshot,
    config: OrchestratorConfig,
    override: NodeOverride,
    models: Mapping[ModelKey, ModelClient],
) -> ModelChoice:
    """A node's model with its parameters; 0 is a temperature, only None inherits."""
    key = model_key(snapshot, config, override)
    try:
        client = models[key]
    except KeyError:
        raise OrchestratorBuildFailed(f"no client was acquired for model {key[1]} of llm_config {key[0]}") from None
    return ModelChoice(
        client=client,
        temperature=override.temperature if override.temperature is not None else config.default_temperature,
        max_tokens=override.max_tokens if override.max_tokens is not None else config.default_max_tokens,
    )
