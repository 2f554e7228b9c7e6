from pathlib import Path

import pytest
from cadence_sdk.testing import PluginHarness, load_plugin


@pytest.fixture
def harness() -> PluginHarness:
    return PluginHarness(load_plugin(Path(__file__).parents[1]))


async def test_a_conversation_stays_with_its_ticket(harness: PluginHarness) -> None:
    anchor = await harness.load_anchor("T-1001")

    assert anchor["subject"] == "Printer on floor 3 prints blank pages"
    assert harness.build_scope_rules(anchor).startswith("Talk about ticket T-1001 (Printer")


async def test_an_unknown_ticket_has_no_anchor(harness: PluginHarness) -> None:
    assert await harness.load_anchor("T-9") == {}


async def test_the_agent_says_how_it_works_and_reads_the_history(harness: PluginHarness) -> None:
    assert "help desk" in harness.system_prompt
    assert "The new one." in await harness.call("ticket_history", ticket_id="T-1001")
