"""Whatever way bytes come in, the messages of a plugin host are the ones that were sent, or it is an error."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.plugin_host.messages import Answer, BadFrame, Frames, Heard, Reply, Told, ToolOutcome, framed, replies
from shared.plugin_host.results import MAX_DEPTH, MAX_NOTE_CHARS, MAX_RESULT_CHARS, bounded

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
outcomes = st.builds(ToolOutcome, texts, values, st.booleans())
messages: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Answer, st.integers(0, 2**31), outcomes),
    st.builds(Heard, st.integers(0, 2**31)),
    st.builds(Told, texts, st.dictionaries(texts, texts, max_size=3)),
)


@given(st.lists(messages, max_size=5), st.data())
def test_messages_survive_any_cutting_of_their_bytes(sent: list[Reply], data: st.DataObject) -> None:
    stream = b"".join(framed(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames = Frames(replies)

    received = [
        message
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for message in frames.feed(stream[start:end])
    ]

    assert received == sent


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_incomplete_and_never_something_else(garbage: bytes) -> None:
    frames = Frames(replies)
    with suppress(BadFrame):
        # What is not refused is still waited for.
        assert list(frames.feed(garbage)) == []


@pytest.mark.parametrize("body", [b"[" * 50_000, b"\xff", b"{}", b'{"type":"answer","id":1e999}', b"null"])
def test_bodies_that_are_no_messages_are_errors(body: bytes) -> None:
    with pytest.raises(BadFrame):
        list(Frames(replies).feed(len(body).to_bytes(4) + body))


@given(st.text(min_size=0, max_size=10), st.integers(0, 100), st.integers(0, 60_000))
def test_an_outcome_is_bounded_whatever_it_was(text: str, depth: int, length: int) -> None:
    shown: object = text * length
    for _ in range(depth):
        shown = [shown]

    result = bounded(ToolOutcome(text * length, shown))

    assert len(result.content) <= MAX_RESULT_CHARS + MAX_NOTE_CHARS
    if isinstance(result.shown, list):
        assert depth <= MAX_DEPTH
    else:
        assert len(result.shown) <= MAX_RESULT_CHARS + MAX_NOTE_CHARS
