"""Default prompt templates by mode and node, with named slots written `{{slot}}`.

Slots are filled by name and only once, never by `str.format`: what a user or a tool wrote may hold braces and must not
be read as a template. They live here because the control plane checks overrides against them and shows them.
"""

import re
from collections.abc import Mapping

from shared.frameworks import Mode

_SLOT = re.compile(r"\{\{([a-z_]+)\}\}")

DEFAULT_PROMPTS: dict[Mode, dict[str, str]] = {mode: {} for mode in Mode}


def slots(template: str) -> frozenset[str]:
    """The names of a template's slots."""
    return frozenset(_SLOT.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every slot replaced. Raises KeyError for a slot without a value."""
    return _SLOT.sub(lambda match: values[match.group(1)], template)
