"""Run with `pytest`."""

import asyncio
from pathlib import Path

import pytest
from cadence_sdk.testing import ArgumentsRefused, PluginHarness, load_plugin

PLUGIN = load_plugin(Path(__file__).parents[1])


def test_a_person_is_greeted() -> None:
    assert asyncio.run(PluginHarness(PLUGIN).call("greet", name="Ada")) == "Hello, Ada!"


def test_the_word_is_a_setting() -> None:
    harness = PluginHarness(PLUGIN, settings={"greeting": "Good morning"})

    assert asyncio.run(harness.call("greet", name="Ada")) == "Good morning, Ada!"


def test_a_call_without_a_name_is_refused() -> None:
    with pytest.raises(ArgumentsRefused, match="name: Field required"):
        asyncio.run(PluginHarness(PLUGIN).call("greet"))
