"""What the platform would refuse, as errors of a test. `problems` lists all of it, one sentence each."""

from collections.abc import Sequence


class PluginRefused(AssertionError):
    """The plugin would be refused at its upload."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class SettingsRefused(PluginRefused):
    """An admin could not save these settings: unknown, of another type, or a required one is missing."""


class ArgumentsRefused(PluginRefused):
    """A model's call with these arguments would be answered with the problems, and the tool not be run."""


class ToolUnknown(PluginRefused):
    """The agent has no tool of this name."""
