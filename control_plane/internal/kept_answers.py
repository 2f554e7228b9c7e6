"""Answers that are kept for as long as a change travels to the last worker."""

from collections.abc import Hashable
from time import monotonic

import msgspec

KEPT_SECONDS = 1.0
MOST_KEPT = 256


class Answer(msgspec.Struct, frozen=True):
    """What is sent, and the revision that it is of."""

    revision: int
    body: bytes


class KeptAnswers:
    """The workers that a change concerns hear of it within some milliseconds, not all while the first one's question
    is still being answered. Each names the revision that it heard of, and gets nothing older than that.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, Answer]] = {}

    def find(self, question: Hashable, at_least: int) -> Answer | None:
        """One of this revision or a newer one."""
        until, answer = self._kept.get(question, (0.0, None))
        return answer if answer is not None and answer.revision >= at_least and monotonic() < until else None

    def keep(self, question: Hashable, answer: Answer) -> None:
        now = monotonic()
        # The oldest come first, as each is put to the end anew.
        self._kept.pop(question, None)
        while self._kept and (len(self._kept) >= MOST_KEPT or next(iter(self._kept.values()))[0] <= now):
            del self._kept[next(iter(self._kept))]
        self._kept[question] = (now + KEPT_SECONDS, answer)
