"""Strict reading of JSON bodies."""

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from control_plane.http.bodies import decode_strictly
from shared.errors import InvalidRequest, MalformedRequest


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rounds: Annotated[int, Meta(ge=1)] = 1


class Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    is_admin: bool = False
    inner: Inner = Inner()
    items: list[Inner] = []


def test_a_good_body_is_decoded() -> None:
    assert decode_strictly(b'{"name": "n", "inner": {"rounds": 2}}', Body) == Body("n", inner=Inner(2))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"name": 1}', "name"),
        (b'{"name": "n", "is_admin": "true"}', "is_admin"),
        (b'{"name": "n", "inner": {"rounds": 0}}', "inner.rounds"),
        (b'{"name": "n", "inner": {"rounds": "2"}}', "inner.rounds"),
        (b'{"name": "n", "inner": {"other": 2}}', "inner"),
        (b'{"name": "n", "items": [{"rounds": 0}]}', "items[0].rounds"),
        (b"{}", "name"),
        (b'{"name": "n", "extra": 1}', "extra"),
        (b'"text"', "body"),
    ],
)
def test_a_bad_field_is_named_by_its_dotted_path(body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decode_strictly(body, Body)

    assert [error.field for error in refusal.value.errors] == [field]


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": 1,}', b"[" * 100_000, b'{"a": "\xed\xa0\x80"}'])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        decode_strictly(body, Body)
