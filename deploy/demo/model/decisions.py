"""Which of the offered tools a message asks for, and with which arguments."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from deploy.demo.model.arguments import Filled, fill
from deploy.demo.model.expressions import find_expression, operator_words
from deploy.demo.model.wire import Conversation, Function, FunctionCall, Message, is_transfer
from deploy.demo.model.words import WEAK_BREAK, sentences, stems

FITS = 2.0
"""Score from which a tool counts as asked for: its name spoken, or two words of its description and a number."""
SURE = 2.5
"""Lexical score from which a tool with missing arguments is worth a question back instead of small talk."""
FOLLOW_UP_WORDS = 8
_CONVERSATIONAL = re.compile(r"conversational|small[\W_]?talk|chit[\W_]?chat", re.I)
_FACILITATOR = re.compile(r"facilitat|clarif", re.I)


class Plan(msgspec.Struct, frozen=True):
    """`calls` in the order of the message. `unclear` when something was asked that lacks what a tool needs."""

    calls: tuple[FunctionCall, ...] = ()
    unclear: bool = False


class _Candidate(msgspec.Struct, frozen=True):
    function: Function
    words_score: float
    filled: Filled

    @property
    def score(self) -> float:
        return self.words_score + self.filled.evidence

    @property
    def is_complete(self) -> bool:
        return not self.filled.missing and self.score >= FITS


class Toolbox:
    """The offered tools, split into real ones and the signals that a supervisor is offered beside them."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self.conversational = next((f for f in functions if _CONVERSATIONAL.search(f.name)), None)
        self.facilitator = next((f for f in functions if _FACILITATOR.search(f.name)), None)
        self.transfers = [f for f in functions if is_transfer(f)]
        signals = (self.conversational, self.facilitator, *self.transfers)
        self.tools = [f for f in functions if f not in signals]
        self._weights = [_word_weights(f) for f in self.tools]
        self._holders = Counter(word for weights in self._weights for word in weights)

    def plan(self, conversation: Conversation) -> Plan:
        """Everything that the last message asks for."""
        calls: list[FunctionCall] = []
        unclear = False
        for sentence in sentences(conversation.question):
            for candidate in self._split(sentence, conversation.earlier):
                if candidate.is_complete:
                    call = FunctionCall(
                        candidate.function.name, json.dumps(candidate.filled.values, ensure_ascii=False)
                    )
                    if call not in calls:
                        calls.append(call)
                elif candidate.words_score >= SURE:
                    unclear = True
        return Plan(tuple(calls), unclear=unclear and not calls)

    def best(self, text: str, earlier: tuple[Message, ...] = ()) -> _Candidate | None:
        """The tool that fits best, complete ones first; ties go to the one offered first."""
        candidates = [self._score(i, text, earlier) for i in range(len(self.tools))]
        return max(candidates, key=lambda c: (c.is_complete, c.score), default=None)

    def _split(self, text: str, earlier: tuple[Message, ...]) -> list[_Candidate]:
        """One candidate for each part of a sentence that is a whole request of its own, else one for all of it."""
        for separator in WEAK_BREAK.finditer(text):
            left = self.best(text[: separator.start()], earlier)
            right = self.best(text[separator.end() :], earlier)
            if left and right and left.is_complete and right.is_complete:
                return [left, *self._split(text[separator.end() :], earlier)]
        whole = self.best(text, earlier)
        return [whole] if whole else []

    def _score(self, index: int, text: str, earlier: tuple[Message, ...]) -> _Candidate:
        function, weights = self.tools[index], self._weights[index]
        spoken = stems(text) | stems(operator_words(find_expression(text) or ""))
        # A word that every tool has tells nothing about which is meant.
        words_score = sum(weights[word] / self._holders[word] for word in spoken if word in weights)
        is_short = len(text.split()) <= FOLLOW_UP_WORDS
        previous = _previous_arguments(function.name, earlier) if is_short else None
        filled = fill(function.parameters or {}, text, previous)
        return _Candidate(function, words_score, filled)


def closest(functions: Sequence[Function], question: str) -> Function | None:
    """Whose description has most words of the question, None when none has any: for agents, that have no arguments."""
    spoken = stems(question) | stems(operator_words(find_expression(question) or ""))
    scores = [sum(weight for word, weight in _word_weights(f).items() if word in spoken) for f in functions]
    best = max(range(len(scores)), key=scores.__getitem__, default=None)
    return functions[best] if best is not None and scores[best] >= 1 else None


def signal(function: Function, question: str) -> FunctionCall:
    """A call of a signal tool; should it want a reason, the user's words are the reason."""
    return FunctionCall(function.name, json.dumps(fill(function.parameters or {}, question).values, ensure_ascii=False))


def is_unreadable(text: str) -> bool:
    """Whether a message has no word at all, so that only a question back can help."""
    return not re.search(r"[^\W\d_]{2}", text)


def _word_weights(function: Function) -> dict[str, float]:
    weights: dict[str, float] = {}

    def add(text: str, weight: float) -> None:
        for word in stems(text):
            weights[word] = max(weight, weights.get(word, 0.0))

    add(function.name, 3.0)
    add(function.description or "", 1.0)
    for name, prop in _properties(function.parameters or {}):
        add(name, 1.0)
        add(str(prop.get("description", "")), 0.5)
    return weights


def _properties(parameters: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, prop) for name, prop in parameters.get("properties", {}).items() if isinstance(prop, Mapping)]


def _previous_arguments(tool: str, earlier: tuple[Message, ...]) -> dict[str, Any] | None:
    """The arguments of the conversation's last call when it was one of `tool`."""
    last = next((m.tool_calls[-1] for m in reversed(earlier) if m.tool_calls), None)
    if last is None or last.function.name != tool:
        return None
    try:
        arguments = json.loads(last.function.arguments)
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None
