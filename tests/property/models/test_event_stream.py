from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_worker.models import sse
from runtime_worker.models.sse import EventStream
from shared.errors import ModelProtocolError

payloads = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1), max_size=6
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(texts=payloads, newline=st.sampled_from([b"\n", b"\r\n"]), cuts=st.lists(st.integers(min_value=0), max_size=20))
def test_events_are_the_same_wherever_the_bytes_are_cut(texts: list[str], newline: bytes, cuts: list[int]) -> None:
    wire = b": a comment" + newline * 2
    for text in texts:
        wire += b"event: x" + newline + b"data: " + text.encode() + newline + b"id: 7" + newline * 2
    stream = EventStream()
    events = [event for piece in pieces(wire, cuts) for event in stream.feed(piece)]
    assert [event.decode() for event in events] == texts
    assert stream.finish() == []


lines = st.sampled_from([b"data: a", b"data: b", b"data:c", b"data: ", b"data", b"id: 7", b": a", b"", b"", b"x\r"])
reads = st.lists(lines, max_size=8).map(lambda some: b"".join(line + b"\n" for line in some))


@given(reads=st.lists(reads, max_size=4))
def test_whole_events_in_one_read_are_those_of_their_bytes(reads: list[bytes]) -> None:
    by_reads, by_bytes = EventStream(), EventStream()
    for read in reads:
        assert by_reads.feed(read) == [event for byte in read for event in by_bytes.feed(bytes([byte]))]
    assert by_reads.finish() == by_bytes.finish()


def test_lines_of_one_event_are_joined_and_the_space_is_optional() -> None:
    assert EventStream().feed(b"data:one\ndata: two\n\n") == [b"one\ntwo"]


def test_the_last_event_counts_even_without_its_empty_line() -> None:
    stream = EventStream()
    assert stream.feed(b"data: [DONE]") == []
    assert stream.finish() == [b"[DONE]"]


@pytest.mark.parametrize("wire", [b"data: " + b"x" * 100, b"data: 0123456789\n" * 10])
def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, wire: bytes) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 64)
    with pytest.raises(ModelProtocolError):
        EventStream().feed(wire)


@pytest.mark.parametrize(("start", "piece"), [(b"data: ", b"x"), (b"", b"data:\n"), (b"data: a\n", b"data:\n")])
def test_pieces_of_an_event_count_however_little_is_in_them(
    monkeypatch: pytest.MonkeyPatch, start: bytes, piece: bytes
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 64 * 100)
    stream = EventStream()
    stream.feed(start)
    with pytest.raises(ModelProtocolError):
        list(map(stream.feed, [piece] * 101))


def test_many_events_in_one_read_are_not_one_large_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 256)
    assert EventStream().feed(b"data: x\n\n" * 1000) == [b"x"] * 1000
