import pytest

from shared.errors import UnsupportedCombination
from shared.frameworks import DEFAULT_BASE_URLS, Framework, Provider, require_supported
from shared.providers import WIRES


def test_every_provider_has_a_wire_and_those_without_an_address_are_the_self_hosted_ones() -> None:
    assert WIRES.keys() == set(Provider)
    assert set(Provider) - DEFAULT_BASE_URLS.keys() == {
        Provider.AZURE,
        Provider.LITELLM,
        Provider.TENSORZERO,
        Provider.BIFROST,
    }


def test_langgraph_runs_with_every_provider() -> None:
    for provider in Provider:
        require_supported(Framework.LANGGRAPH, provider)


def test_a_provider_that_a_framework_cannot_use_is_refused_naming_those_it_can() -> None:
    with pytest.raises(UnsupportedCombination) as mismatch:
        require_supported(Framework.OPENAI_AGENTS, Provider.ANTHROPIC)

    assert [error.code for error in mismatch.value.errors] == ["provider_mismatch"]
    assert "openai, litellm, bifrost" in mismatch.value.errors[0].message
