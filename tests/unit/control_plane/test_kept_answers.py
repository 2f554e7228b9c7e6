import pytest

from control_plane.internal import kept_answers
from control_plane.internal.kept_answers import Answer, KeptAnswers


def test_what_is_kept_answers_those_who_ask_for_nothing_newer() -> None:
    kept = KeptAnswers()
    kept.keep("it", Answer(5, b"five"))
    assert kept.find("other", 1) is None
    assert [bool(kept.find("it", at_least)) for at_least in (4, 5, 6)] == [True, True, False]
    kept.keep("it", Answer(6, b"six"))
    found = kept.find("it", 5)
    assert found is not None
    assert found.body == b"six"


def test_nothing_is_kept_for_long_nor_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(kept_answers, "monotonic", lambda: now)
    kept = KeptAnswers()
    for number in range(kept_answers.MOST_KEPT + 1):
        kept.keep(number, Answer(1, b""))
    assert kept.find(0, 1) is None
    assert kept.find(1, 1) is not None
    now += kept_answers.KEPT_SECONDS
    assert kept.find(kept_answers.MOST_KEPT, 1) is None
    kept.keep("new", Answer(1, b""))
    assert len(kept._kept) == 1
