"""Cursors take whatever comes."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from control_plane.http.paging import decode_cursor, decode_id_cursor, encode_cursor
from shared.errors import InvalidRequest


@given(st.uuids())
def test_a_cursor_comes_back_as_what_it_was(value: UUID) -> None:
    assert decode_id_cursor(encode_cursor(value)) == value


@given(st.lists(st.text() | st.integers(min_value=-(2**63), max_value=2**63 - 1)))
def test_any_json_value_can_be_a_cursor(value: list[str | int]) -> None:
    assert decode_cursor(encode_cursor(value), list[str | int]) == value


@given(st.text())
def test_no_text_breaks_the_reading_of_a_cursor(text: str) -> None:
    try:
        assert isinstance(decode_id_cursor(text), UUID)
    except InvalidRequest:
        return


@given(st.uuids(), st.data())
def test_a_tampered_cursor_is_refused_or_still_a_cursor(value: UUID, data: st.DataObject) -> None:
    cursor = encode_cursor(value)
    at = data.draw(st.integers(0, len(cursor) - 1))
    tampered = cursor[:at] + data.draw(st.characters()) + cursor[at + 1 :]
    try:
        assert isinstance(decode_id_cursor(tampered), UUID)
    except InvalidRequest:
        return
