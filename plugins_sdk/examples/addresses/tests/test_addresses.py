from pathlib import Path

import pytest
from cadence_sdk.testing import ArgumentsRefused, PluginHarness, load_plugin


@pytest.fixture
def harness() -> PluginHarness:
    return PluginHarness(load_plugin(Path(__file__).parents[1]))


async def test_an_address_is_explained(harness: PluginHarness) -> None:
    explained = await harness.call("explain_address", address="10.0.0.1")

    assert explained == {"address": "10.0.0.1", "version": 4, "kinds": ["private"]}


async def test_what_is_no_address_is_a_sentence_for_the_model(harness: PluginHarness) -> None:
    assert await harness.call("explain_address", address="here") == "'here' is no IP address."


async def test_a_host_is_looked_up(harness: PluginHarness) -> None:
    found = await harness.call("look_up_host", host="localhost")

    assert "127.0.0.1" in found["addresses"]


async def test_a_call_without_its_argument_never_reaches_the_tool(harness: PluginHarness) -> None:
    with pytest.raises(ArgumentsRefused, match="address: Field required"):
        await harness.call("explain_address")
