"""Bounds of body fields."""

from typing import Any

import msgspec
import pytest

from control_plane.fields import Email, Username, WebUrl
from control_plane.llm_configs.schemas import ApiKey
from control_plane.organizations.schemas import Country, Domain
from control_plane.plugins.schemas import Tag

GOOD: list[tuple[Any, str]] = [
    (Username, "carol"),
    (Email, "carol@example.com"),
    (WebUrl, "https://example.com/x"),
    (ApiKey, "sk-0123456789"),
    (Domain, "example.com"),
    (Country, "DE"),
    (Tag, "search"),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_a_line_break_at_the_end_is_no_part_of_a_name_an_address_or_a_key(kind: Any, text: str) -> None:
    assert msgspec.convert(text, kind) == text
    for more in ("\n", "\r\n", "\nx"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(text + more, kind)
