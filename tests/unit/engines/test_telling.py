from runtime_worker.engines.telling import Telling
from tests.fakes.event_sink import RecordingSink


def test_white_space_is_told_with_the_first_word_behind_it_and_not_without() -> None:
    sink = RecordingSink()
    telling = Telling(sink)
    silent, speaking = telling.writer("agent_node"), telling.writer("synthesizer_node")
    for text in ("", " ", "\n"):
        silent(text)
    assert not telling.has_visible_text
    assert sink.text == ""
    for text in ("\n ", "one", " ", "two"):
        speaking(text)
    assert telling.answer == sink.text == "\n one two"
