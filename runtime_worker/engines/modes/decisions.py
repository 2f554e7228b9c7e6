"""Decisions that a model gives as a JSON object, read from whatever it wrote.

A provider with native structured output is held to the schema. Others are only asked, and wrap the object in a fence or
in prose; what they mean is taken from it all the same.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

MAX_READ_CHARS = 50_000
MAX_BRACES = 50
"""Where an object may begin. Every try may read to the end of the text, which a model could make last."""


def _no_problem(_: Any) -> str | None:
    return None


@dataclass(frozen=True)
class Question(Generic[T]):
    """A decision: its JSON schema, the type it is read into, and the `default` that stands when a model gives none.

    `problem` says what is wrong with a decision of the right form, for the model to repair; None accepts it.
    """

    schema: dict[str, Any]
    answer_type: type[T]
    default: T
    problem: Callable[[T], str | None] = _no_problem

    def read(self, text: str) -> tuple[T | None, str]:
        """The decision, or None with what the model is told about it."""
        complaint = "there was no JSON object of this form in it"
        for candidate in _objects(text):
            try:
                # Not strict: "true" and 1 are what some models write for a boolean.
                decision = msgspec.convert(candidate, self.answer_type, strict=False)
            except msgspec.ValidationError:
                continue
            if (problem := self.problem(decision)) is None:
                return decision, ""
            complaint = problem
        return None, complaint

    def repair(self, complaint: str) -> str:
        """What a model is told when its answer could not be read."""
        schema = json.dumps(self.schema, ensure_ascii=False)
        return f"This cannot be used: {complaint}. Answer again with the JSON object alone. Its JSON schema: {schema}"


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, outermost ones, in order."""
    text = text[:MAX_READ_CHARS]
    decoder, position = json.JSONDecoder(), 0
    for _ in range(MAX_BRACES):
        if (position := text.find("{", position)) == -1:
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        yield value


class Verdict(msgspec.Struct, frozen=True):
    """Whether what was checked may be used, and the `reasons` when not."""

    is_valid: bool
    reasons: list[str] = []

    @property
    def listed(self) -> str:
        return "\n".join(f"- {reason}" for reason in self.reasons)


VERDICT_SCHEMA = {
    "type": "object",
    "properties": {"is_valid": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
    "required": ["is_valid", "reasons"],
    "additionalProperties": False,
}
