"""Default prompt templates by mode and node, with named slots written `{{slot}}`.

They live here because the control plane checks overrides against them and shows them.

A prompt says what a node is for. What users, tools and plugins wrote never becomes part of that: it comes as messages
of its own role, or inside a slot between tags that it cannot close (`as_data`).
"""

from shared.frameworks import Mode
from shared.prompts.coordinator import COORDINATOR_PROMPTS
from shared.prompts.every_mode import EVERY_MODE_PROMPTS
from shared.prompts.grounded import GROUNDED_PROMPTS
from shared.prompts.handoff import DEFAULT_HANDOFF_INSTRUCTIONS, HANDOFF_PROMPTS
from shared.prompts.supervisor import SUPERVISOR_PROMPTS
from shared.prompts.templates import as_data, fill, slots

DEFAULT_PROMPTS: dict[Mode, dict[str, str]] = {
    Mode.SUPERVISOR: {**SUPERVISOR_PROMPTS, **EVERY_MODE_PROMPTS},
    Mode.COORDINATOR: {**COORDINATOR_PROMPTS, **EVERY_MODE_PROMPTS},
    Mode.HANDOFF: {**HANDOFF_PROMPTS, **EVERY_MODE_PROMPTS},
    Mode.GROUNDED: {**GROUNDED_PROMPTS, **EVERY_MODE_PROMPTS},
}

__all__ = ["DEFAULT_HANDOFF_INSTRUCTIONS", "DEFAULT_PROMPTS", "as_data", "fill", "slots"]
