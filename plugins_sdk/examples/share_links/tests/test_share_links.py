from pathlib import Path
from typing import Any

import pytest
from cadence_sdk import BasePlugin
from cadence_sdk.testing import PluginHarness, SettingsRefused, load_plugin

SETTINGS: dict[str, Any] = {"signing_key": "not-for-the-user", "valid_minutes": 5}


@pytest.fixture
def plugin() -> type[BasePlugin]:
    return load_plugin(Path(__file__).parents[1])


async def test_the_user_sees_the_link_and_nothing_else(plugin: type[BasePlugin]) -> None:
    result, shown = await PluginHarness(plugin, SETTINGS).call_and_show("share_document", document_id="D-17")

    assert result["document_id"] == "D-17"
    assert shown == {"link": result["link"], "valid_minutes": 5}
    assert shown["link"].startswith("https://documents.example.com/d/D-17?expires=")


async def test_the_signing_key_is_in_no_result(plugin: type[BasePlugin]) -> None:
    result = await PluginHarness(plugin, SETTINGS).call("share_document", document_id="D-17")

    assert "not-for-the-user" not in str(result)


async def test_another_key_signs_another_link(plugin: type[BasePlugin]) -> None:
    signatures = set()
    for key in ("one", "two"):
        result = await PluginHarness(plugin, {"signing_key": key}).call("share_document", document_id="D-17")
        signatures.add(result["link"].rpartition("=")[2])

    assert len(signatures) == 2


def test_without_the_signing_key_it_cannot_be_saved(plugin: type[BasePlugin]) -> None:
    with pytest.raises(SettingsRefused, match="'signing_key' is required"):
        PluginHarness(plugin)
