"""Slots of a template, `{{slot}}`: filled by name and only once, never by `str.format`. What a user or a tool wrote may
hold braces and must not be read as a template."""

import re
from collections.abc import Mapping

_SLOT = re.compile(r"\{\{([a-z_]+)\}\}")


def slots(template: str) -> frozenset[str]:
    """The names of a template's slots."""
    return frozenset(_SLOT.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every slot replaced. Raises KeyError for a slot without a value."""
    return _SLOT.sub(lambda match: values[match.group(1)], template).strip()


def as_data(tag: str, text: str, **attributes: str) -> str:
    """`text` between tags that nothing in it can close, for showing to a model what somebody else wrote."""
    closing = re.compile(rf"<(?=/\s*{re.escape(tag)}\b)", re.IGNORECASE)
    shown = "".join(f' {name}="{_attribute(value)}"' for name, value in attributes.items())
    return f"<{tag}{shown}>\n{closing.sub('&lt;', text).strip()}\n</{tag}>"


def _attribute(value: str) -> str:
    return re.sub(r'[<>"\r\n]', " ", value)
