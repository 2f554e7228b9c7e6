"""Which model each node of an instance talks to, as the configuration and the llm_configs say together."""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from runtime_worker.engines.base import ModelChoice
from runtime_worker.models.base import ModelClient
from runtime_worker.models.fallback import FallbackClient
from shared.errors import LLMConfigDisabled, OrchestratorBuildFailed
from shared.orchestrator_config import AnyConfig, NodeOverride, read_stored
from shared.snapshots import LLMConfigSnapshot, OrchestratorSnapshot

ModelKey = tuple[UUID, str]
"""`(llm_config_id, model_name)`, the key of `EngineParts.models`."""


def typed_config(snapshot: OrchestratorSnapshot) -> AnyConfig:
    """The snapshot's `config` as the structs that the control plane checked it with."""
    try:
        return read_stored(snapshot.mode, snapshot.config)
    except msgspec.ValidationError as error:
        raise OrchestratorBuildFailed(f"the stored configuration cannot be read: {error}") from None


def model_keys(snapshot: OrchestratorSnapshot) -> frozenset[ModelKey]:
    """Every model the pool has to acquire before it builds this instance. Raises OrchestratorBuildFailed."""
    config = typed_config(snapshot)
    keys = {model_key(snapshot, config, override) for _, override in config.nodes()}
    fallback = fallback_key(snapshot, config)
    return frozenset(keys | {fallback} if fallback else keys)


def model_key(snapshot: OrchestratorSnapshot, config: AnyConfig, override: NodeOverride) -> ModelKey:
    """The model of one node: its own name, its own llm_config's, the instance's, the default config's."""
    own = llm_config(snapshot, override.llm_config_id) if override.llm_config_id else None
    default = llm_config(snapshot, config.default_llm_config_id)
    name = override.model_name or (own and own.model_name) or config.default_model_name or default.model_name
    if not name:
        raise OrchestratorBuildFailed("no model name: neither the config nor its llm_config names one")
    return (own or default).id, name


def fallback_key(snapshot: OrchestratorSnapshot, config: AnyConfig) -> ModelKey | None:
    """The model that is tried when a node's own cannot be reached: the fallback config's, else of the default's name.

    None when there is no fallback, also when it is disabled: that must not keep an instance from being built.
    """
    if config.fallback_llm_config_id is None:
        return None
    fallback = snapshot.llm_configs.get(str(config.fallback_llm_config_id))
    if fallback is None:
        return None
    name = fallback.model_name or config.default_model_name
    return (fallback.id, name) if name else None


def llm_config(snapshot: OrchestratorSnapshot, config_id: UUID) -> LLMConfigSnapshot:
    """Raises LLMConfigDisabled."""
    try:
        return snapshot.llm_configs[str(config_id)]
    except KeyError:
        # Snapshots leave out exactly those that are disabled; one in use cannot be deleted.
        raise LLMConfigDisabled(f"llm_config {config_id} is disabled") from None


def choose(
    snapshot: OrchestratorSnapshot,
    config: AnyConfig,
    override: NodeOverride,
    models: Mapping[ModelKey, ModelClient],
) -> ModelChoice:
    """A node's model with its parameters; 0 is a temperature, only None inherits."""
    key, fallback = model_key(snapshot, config, override), fallback_key(snapshot, config)
    client = _acquired(models, key)
    # A model is no fallback for itself.
    if fallback and fallback != key:
        second = _acquired(models, fallback)
        client = FallbackClient(client, second, llm_config(snapshot, fallback[0]).provider)
    return ModelChoice(
        client=client,
        provider=llm_config(snapshot, key[0]).provider,
        temperature=override.temperature if override.temperature is not None else config.default_temperature,
        max_tokens=override.max_tokens if override.max_tokens is not None else config.default_max_tokens,
    )


def _acquired(models: Mapping[ModelKey, ModelClient], key: ModelKey) -> ModelClient:
    try:
        return models[key]
    except KeyError:
        raise OrchestratorBuildFailed(f"no client was acquired for model {key[1]} of llm_config {key[0]}") from None
