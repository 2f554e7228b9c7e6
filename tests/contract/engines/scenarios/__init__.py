"""The scenarios, by what they are about. Importing a module puts its scenarios into the catalogue."""

from tests.contract.engines.scenarios import (
    answers,
    cancelling,
    coordinator,
    grounded,
    handoff,
    limits,
    supervisor,
    tools,
    trouble,
)

__all__ = ["answers", "cancelling", "coordinator", "grounded", "handoff", "limits", "supervisor", "tools", "trouble"]
