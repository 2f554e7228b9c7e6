"""What an instance's `config` may say given the llm_configs it points to."""

from collections.abc import Iterable

from control_plane.llm_configs.tables import LLMConfig
from shared.errors import FieldError, InvalidRequest, UnsupportedCombination
from shared.frameworks import RUNNABLE, SUPPORTED_PROVIDERS, Framework, Mode, Provider, require_runnable
from shared.orchestrator_config import OrchestratorConfig


def require_mode(framework: Framework, mode: Mode) -> None:
    """Raise UnsupportedCombination when this version cannot run the two together, whatever the provider."""
    if (framework, mode) not in RUNNABLE:
        require_runnable(framework, mode, SUPPORTED_PROVIDERS[framework][0])


def check_models(framework: Framework, mode: Mode, config: OrchestratorConfig, configs: Iterable[LLMConfig]) -> None:
    """Every node has a provider that the framework works with and a model name.

    Raises UnsupportedCombination or InvalidRequest naming the node.
    """
    by_id = {config.id: config for config in configs}
    default = by_id[config.default_llm_config_id]
    require_runnable(framework, mode, Provider(default.provider))
    problems: list[FieldError] = []
    if not (config.default_model_name or default.model_name):
        message = f"set a model here or a model_name in the llm_config {default.name!r}"
        problems.append(FieldError("config.default_model_name", "missing", message))
    for name, node in config.nodes():
        if node.llm_config_id is not None:
            own = by_id[node.llm_config_id]
            _require_provider(framework, mode, Provider(own.provider), f"config.mode_config.{name}.llm_config_id")
            if not (node.model_name or own.model_name or config.default_model_name):
                field, message = f"config.mode_config.{name}.model_name", f"the llm_config {own.name!r} names no model"
                problems.append(FieldError(field, "missing", message))
    if problems:
        raise InvalidRequest("a model name is missing", errors=tuple(problems))


def _require_provider(framework: Framework, mode: Mode, provider: Provider, field: str) -> None:
    try:
        require_runnable(framework, mode, provider)
    except UnsupportedCombination as refusal:
        errors = tuple(FieldError(field, error.code, error.message) for error in refusal.errors)
        raise UnsupportedCombination(refusal.detail, errors=errors) from None
