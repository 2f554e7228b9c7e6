"""Where a framework forces other events than the common ones. One row each, with the reason; at most ten.

A row replaces what a scenario expects. One that is not needed any more fails the suite: then the framework tells the
common story, and not the row's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from shared.frameworks import Framework
from tests.contract.engines.scenario import Scenario
from tests.contract.engines.story import Event, Story

MAX_ROWS = 10


@dataclass(frozen=True)
class Difference:
    """`scenarios` is a pattern of `<mode>-<name>`. `tells` makes the framework's story of the common one."""

    framework: Framework
    scenarios: str
    reason: str
    tells: Callable[[Sequence[Event]], Story]

    def concerns(self, framework: Framework, scenario: Scenario) -> bool:
        return framework is self.framework and fnmatchcase(f"{scenario.mode}-{scenario.name}", self.scenarios)


DIFFERENCES: tuple[Difference, ...] = ()


def story_of(framework: Framework, scenario: Scenario) -> Story:
    """What a framework has to tell in a scenario."""
    story = list(scenario.events)
    for row in DIFFERENCES:
        if row.concerns(framework, scenario):
            story = row.tells(story)
    return story
