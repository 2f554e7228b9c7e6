import pytest

from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.choices import check_models
from shared.errors import UnsupportedCombination
from shared.frameworks import Framework, Mode, Provider
from shared.ids import new_id
from shared.orchestrator_config import parse_config


def credential(provider: Provider) -> LLMConfig:
    return LLMConfig(id=new_id(), name=provider.value, provider=provider.value, model_name="m")


@pytest.mark.parametrize(
    ("default", "node", "field"),
    [
        (Provider.ANTHROPIC, Provider.OPENAI, "config.default_llm_config_id"),
        (Provider.OPENAI, Provider.ANTHROPIC, "config.mode_config.synthesizer_node.llm_config_id"),
    ],
)
def test_a_provider_that_the_framework_cannot_use_is_refused_where_it_is_named(
    default: Provider, node: Provider, field: str
) -> None:
    used, own = credential(default), credential(node)
    raw = {
        "default_llm_config_id": str(used.id),
        "mode_config": {"synthesizer_node": {"llm_config_id": str(own.id)}},
    }

    with pytest.raises(UnsupportedCombination) as refusal:
        check_models(Framework.OPENAI_AGENTS, parse_config(Mode.SUPERVISOR, raw), [used, own])

    assert [error.field for error in refusal.value.errors] == [field]
