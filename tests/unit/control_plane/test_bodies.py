"""Strict reading of JSON bodies."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from control_plane.http.bodies import MAX_JSON_DEPTH, decode_strictly
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


class Loose(msgspec.Struct):
    config: dict[str, Any]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_body_is_not_nested_deeper_than_anything_that_reads_it_can_bear(opening: bytes) -> None:
    def nested(levels: int) -> bytes:
        closing = b"]" if opening == b"[" else b"}"
        return b'{"config":{"deep":' + opening * levels + b"1" + closing * levels + b"}}"

    decode_strictly(nested(MAX_JSON_DEPTH - 2), Loose)
    with pytest.raises(MalformedRequest):
        decode_strictly(nested(MAX_JSON_DEPTH - 1), Loose)


def test_a_wide_body_is_not_a_deep_one() -> None:
    decode_strictly(b'{"config":{"wide":[' + b",".join([b"[]"] * 1000) + b"]}}", Loose)


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": 1,}', b"[" * 100_000, b'{"a": "\xed\xa0\x80"}'])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        decode_strictly(body, Body)
