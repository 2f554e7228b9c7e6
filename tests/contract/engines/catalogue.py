"""Every scenario there is, by mode. The modules of `scenarios/` put theirs in here when they are imported."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from shared.frameworks import Mode
from tests.contract.engines.scenario import Scenario
from tests.contract.engines.walk import Walk
from tests.contract.engines.walks import WALKS

SCENARIOS: dict[Mode, dict[str, Scenario]] = {mode: {} for mode in WALKS}

W = TypeVar("W", bound=Walk)
Make = Callable[[W], Scenario | Iterable[Scenario]]


def in_every_mode(make: Make[Walk]) -> Make[Walk]:
    """`make` is told in every mode. A scenario is called like the function; of several, each adds a name of its own."""
    for walk in WALKS.values():
        _add(make, walk)
    return make


def in_mode(walk: W) -> Callable[[Make[W]], Make[W]]:
    """For what only one mode has."""

    def add(make: Make[W]) -> Make[W]:
        _add(make, walk)
        return make

    return add


def _add(make: Make[W], walk: W) -> None:
    made = make(walk)
    for scenario in [made] if isinstance(made, Scenario) else made:
        name = "-".join(part for part in (make.__name__, scenario.name) if part)
        assert name not in SCENARIOS[walk.mode], f"two scenarios are called {name}"
        SCENARIOS[walk.mode][name] = replace(scenario, name=name)
