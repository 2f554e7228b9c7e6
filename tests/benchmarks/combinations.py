"""The combinations of framework and mode, each configured so that one node writes tokens and all others decide."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shared.frameworks import COMBINATIONS, Framework, Mode, Provider
from tests.fakes.plugin_packages import package

PROVIDER = Provider.LITELLM
"""The one that every framework supports."""
DECIDING_MODEL = "bench-decides"
RESOURCE_ID = "bench"
SCOPED_AGENT = """
async def load_anchor(self, resource_id):
    return {"id": resource_id}

def build_scope_rules(self, context):
    return "Anything."
"""
_WRITERS = {
    Mode.SUPERVISOR: "conversational_node",
    Mode.COORDINATOR: "synthesizer_node",
    Mode.HANDOFF: "agent_node",
    Mode.GROUNDED: "synthesizer_node",
}
_MODEL_CALLS = {Mode.SUPERVISOR: 2, Mode.COORDINATOR: 2, Mode.HANDOFF: 1, Mode.GROUNDED: 3}
_MODE_CONFIG: Mapping[Mode, dict[str, Any]] = {Mode.GROUNDED: {"enabled_validator": False}}
"""A draft that is validated is shown as a whole, so that there would be no tokens to measure."""


class Combination(msgspec.Struct, frozen=True):
    framework: Framework
    mode: Mode

    def __str__(self) -> str:
        return f"{self.framework} {self.mode}"

    @property
    def model_calls(self) -> int:
        """Of an answer that needs no tool, that of the answer included."""
        return _MODEL_CALLS[self.mode]

    def mode_config(self, writing_model: str) -> dict[str, Any]:
        return {_WRITERS[self.mode]: {"model_name": writing_model}, **_MODE_CONFIG.get(self.mode, {})}


def runnable(names: str = "") -> Iterator[Combination]:
    """All of them; `names` picks those whose name holds one of its comma-separated words."""
    words = [word for word in names.split(",") if word]
    for framework, mode in COMBINATIONS:
        combination = Combination(framework, mode)
        if not words or any(word in str(combination) for word in words):
            yield combination


def scoped_package() -> bytes:
    """A plugin with one tool that any mode can work with."""
    return package(base="BaseScopedAgent", agent=SCOPED_AGENT)
