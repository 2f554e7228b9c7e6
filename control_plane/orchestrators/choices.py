"""What an instance's `config` may say given its mode, the llm_configs it points to and its plugins."""

from collections.abc import Iterable, Sequence

from control_plane.llm_configs.records import LLMConfigRecord
from control_plane.llm_configs.tables import LLMConfig
from control_plane.plugins.catalogue import CatalogueEntry
from shared.errors import FieldError, InvalidRequest, UnsupportedCombination
from shared.frameworks import Framework, Mode, Provider, require_supported
from shared.orchestrator_config import AnyConfig, HandoffConfig

Model = tuple[Provider, str]
"""Whose it is and its name."""


def check_models(framework: Framework, config: AnyConfig, configs: Iterable[LLMConfig | LLMConfigRecord]) -> None:
    """Every node has a provider that the framework works with and a model name.

    Raises UnsupportedCombination or InvalidRequest naming the node.
    """
    by_id = {config.id: config for config in configs}
    default = by_id[config.default_llm_config_id]
    require_supported(framework, Provider(default.provider))
    problems: list[FieldError] = []
    if not (config.default_model_name or default.model_name):
        message = f"set a model here or a model_name in the llm_config {default.name!r}"
        problems.append(FieldError("config.default_model_name", "missing", message))
    for name, node in config.nodes():
        if node.llm_config_id is not None:
            own = by_id[node.llm_config_id]
            _require_provider(framework, Provider(own.provider), f"config.mode_config.{name}.llm_config_id")
            if not (node.model_name or own.model_name or config.default_model_name):
                field, message = f"config.mode_config.{name}.model_name", f"the llm_config {own.name!r} names no model"
                problems.append(FieldError(field, "missing", message))
    if config.fallback_llm_config_id is not None:
        fallback, field = by_id[config.fallback_llm_config_id], "config.fallback_llm_config_id"
        _require_provider(framework, Provider(fallback.provider), field)
        if not (fallback.model_name or config.default_model_name):
            problems.append(FieldError(field, "missing", f"the llm_config {fallback.name!r} names no model"))
    if problems:
        raise InvalidRequest("a model name is missing", errors=tuple(problems))


def models_of(config: AnyConfig, configs: Iterable[LLMConfig | LLMConfigRecord]) -> frozenset[Model]:
    """Every model that calls of the instance may go to, its fallback's included."""
    by_id = {config.id: config for config in configs}
    default = by_id[config.default_llm_config_id]
    found: set[tuple[str, str | None]] = {(default.provider, config.default_model_name or default.model_name)}
    for _, node in config.nodes():
        own = by_id[node.llm_config_id] if node.llm_config_id else None
        name = node.model_name or (own and own.model_name) or config.default_model_name or default.model_name
        found.add(((own or default).provider, name))
    if config.fallback_llm_config_id is not None:
        fallback = by_id[config.fallback_llm_config_id]
        found.add((fallback.provider, fallback.model_name or config.default_model_name))
    return frozenset((Provider(provider), name) for provider, name in found if name)


def check_plugins(mode: Mode, config: AnyConfig, plugins: Sequence[CatalogueEntry]) -> None:
    """The plugins are what the mode works with. Raises InvalidRequest naming the field.

    A version may be activated whose agent is another than before, so every change of config or plugins asks again.
    """
    if mode is Mode.GROUNDED and [plugin.manifest.is_scoped for plugin in plugins] != [True]:
        message = "a grounded orchestrator works with exactly one plugin, whose agent is a BaseScopedAgent"
        raise InvalidRequest(message, errors=(FieldError("active_plugin_ids", "not_scoped", message),))
    mode_config = config.mode_config
    if isinstance(mode_config, HandoffConfig) and mode_config.entry_agent is not None:
        pids = [plugin.pid for plugin in plugins]
        if mode_config.entry_agent not in pids:
            message = f"not an active plugin; the active ones are: {', '.join(pids)}"
            field = "config.mode_config.entry_agent"
            raise InvalidRequest("the entry agent is not there", errors=(FieldError(field, "not_active", message),))


def _require_provider(framework: Framework, provider: Provider, field: str) -> None:
    try:
        require_supported(framework, provider)
    except UnsupportedCombination as refusal:
        errors = tuple(FieldError(field, error.code, error.message) for error in refusal.errors)
        raise UnsupportedCombination(refusal.detail, errors=errors) from None
