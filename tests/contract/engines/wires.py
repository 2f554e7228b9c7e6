"""The scenarios that are played over the wires that are not OpenAI's, and what cannot be said on one of them."""

import re
from collections.abc import Iterator

from shared.frameworks import Mode, Provider
from tests.contract.engines.catalogue import SCENARIOS
from tests.contract.engines.scenario import Scenario

WIRES = (Provider.ANTHROPIC, Provider.GEMINI)

UNSPEAKABLE: dict[tuple[Provider, str], str] = {
    (Provider.ANTHROPIC, "parameters_of_the_instance_are_on_the_wire-set"): "new Claude models take no temperature",
    (Provider.ANTHROPIC, "overrides_of_the_answering_node_are_on_the_wire_of_it_alone"): "nor do they for one node",
    (
        Provider.GEMINI,
        "calls_run_one_after_the_other_when_parallel_ones_are_off",
    ): "Gemini cannot be asked for one call",
    (Provider.GEMINI, "bad_arguments_are_told_to_the_model_which_repairs_them-cut_off"): "it sends no broken JSON",
}
"""Scenarios that a wire has no words for, and why."""


def spoken_over_every_wire() -> Iterator[tuple[Provider, Scenario]]:
    """What differs in nothing but the node is played once. One mode is enough: a mode never sees a wire."""
    once: dict[str, Scenario] = {}
    for name, scenario in SCENARIOS[Mode.SUPERVISOR].items():
        once.setdefault(re.sub(r"\w+?_node", "", name), scenario)
    for provider in WIRES:
        for scenario in once.values():
            if (provider, scenario.name) not in UNSPEAKABLE:
                yield provider, scenario
