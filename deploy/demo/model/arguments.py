"""Arguments for a tool out of a sentence, guided by the tool's JSON schema alone."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from deploy.demo.model.schemas import resolve, type_of
from deploy.demo.model.sentence import Sentence
from deploy.demo.model.words import numbers, stem, stems

_QUOTED = re.compile(r"[\"“«`]([^\"”»`]+)[\"”»`]|(?<!\w)'([^']+)'(?!\w)")
_PLACE = re.compile(r"\b(?:in|for|at|near|of|from|to)\s+((?:[A-Z][\w'’-]*)(?:\s+[A-Z][\w'’-]*)*)")
_PROPER = re.compile(r"(?<=\s)((?:[A-Z][\w'’-]*)(?:\s+[A-Z][\w'’-]*)*)")
_FORMATS: dict[str, re.Pattern[str]] = {
    "date": re.compile(r"\b\d{4}-\d{2}-\d{2}\b"),
    "date-time": re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})?"),
    "time": re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b"),
    "email": re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b"),
    "uri": re.compile(r"\bhttps?://[^\s,)]+"),
    "uuid": re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.I),
}
_EXPRESSION = frozenset({"expression", "formula", "equation", "calculate", "expr"})
_FROM = frozenset({"from", "source", "src", "origin", "input", "start"})
_TO = frozenset({"to", "target", "dest", "destination", "into", "output", "end"})
_FREE_TEXT = frozenset(
    {"query", "question", "text", "message", "prompt", "topic", "search", "sentence", "content", "q"}
)
_PLACES = frozenset({"city", "place", "location", "country", "town", "region", "address"})
_ABOUT = re.compile(r"\b(?:about|for|on|regarding|called|named|saying)\s+(.+)$", re.I)
_NOT = re.compile(r"\b(?:no|not|without|don't|never)\s+(?:\w+\s+){0,2}$", re.I)

FOLLOW_UP_EVIDENCE = 2.0
"""A short message that changes one argument of the last call is a request for that tool by itself."""


class Filled(msgspec.Struct):
    """`evidence` counts how strongly the sentence asks for these very parameters; `missing` are required ones."""

    values: dict[str, Any]
    missing: list[str]
    evidence: float = 0.0


def fill(schema: Mapping[str, Any], text: str, previous: Mapping[str, Any] | None = None) -> Filled:
    """Arguments for `schema` from `text`; `previous` are those of an earlier call, used where the text says nothing.

    So `and in metres?` after `5 miles to km` still knows about the 5 miles.
    """
    sentence = Sentence(text)
    filled = _object(schema, schema, sentence)
    if previous and filled.values and filled.missing and set(filled.missing) <= previous.keys():
        filled = Filled({**previous, **filled.values}, [], filled.evidence + FOLLOW_UP_EVIDENCE)
    return filled


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], sentence: Sentence) -> Filled:
    filled = Filled({}, [])
    required = schema.get("required", [])
    for name, raw in schema.get("properties", {}).items():
        prop = resolve(raw, root)
        found = _value(name, prop, root, sentence, is_required=name in required)
        if found is None:
            if name in required:
                filled.missing.append(name)
            continue
        value, evidence = found
        filled.values[name] = value
        filled.evidence += evidence
    return filled


def _value(
    name: str, prop: Mapping[str, Any], root: Mapping[str, Any], sentence: Sentence, *, is_required: bool
) -> tuple[Any, float] | None:
    """A value and how much it speaks for the tool, or None when the sentence gives none."""
    if "const" in prop:
        return prop["const"], 0.0
    if choices := prop.get("enum"):
        return _choice(name, choices, sentence)
    match type_of(prop):
        case "integer" | "number" as kind:
            number = sentence.number_near(stems(name))
            if number is None or (kind == "integer" and number.value != int(number.value)):
                return None
            return (int(number.value) if kind == "integer" else number.value), 0.5
        case "boolean":
            return _flag(name, sentence, is_required=is_required)
        case "array":
            return _array(name, resolve(prop.get("items", {}), root), root, sentence)
        case "object":
            nested = _object(prop, root, sentence)
            if nested.missing or (not nested.values and (prop.get("properties") or not is_required)):
                return None
            return nested.values, nested.evidence
        case _:
            return _text(name, prop, sentence, is_required=is_required)


def _choice(name: str, choices: list[Any], sentence: Sentence) -> tuple[Any, float] | None:
    """The enum value that the text names. Of several, `from`-like parameters take the first and `to`-like the last."""
    hits = sorted((start, value) for value in choices if isinstance(value, str) for start in _mentions(value, sentence))
    free = [hit for hit in hits if hit[0] not in sentence.taken_choices]
    if not free:
        return None
    side = _side(name)
    start, value = free[-1] if side == "to" else free[0]
    if side == "from" and len(free) == 1 and sentence.target and sentence.text.find(sentence.target) == start:
        return None
    sentence.taken_choices.add(start)
    return value, 2.5


def _mentions(value: str, sentence: Sentence) -> Iterator[int]:
    wanted = [stem(part) for part in re.split(r"[\W_]+", value) if part]
    spoken = [(m.start(), stem(m.group())) for m in re.finditer(r"[^\W_]+", sentence.text)]
    for index in range(len(spoken) - len(wanted) + 1):
        if wanted and [word for _, word in spoken[index : index + len(wanted)]] == wanted:
            yield spoken[index][0]


def _side(name: str) -> str | None:
    parts = set(re.split(r"[\W_]+", name.lower()))
    return "from" if parts & _FROM else "to" if parts & _TO else None


def _flag(name: str, sentence: Sentence, *, is_required: bool) -> tuple[bool, float] | None:
    wanted = stems(name)
    for match in re.finditer(r"[^\W_]+", sentence.text):
        if stem(match.group()) in wanted:
            return not _NOT.search(sentence.text[: match.start()]), 0.5
    return (False, 0.0) if is_required else None


def _array(name: str, item: Mapping[str, Any], root: Mapping[str, Any], sentence: Sentence) -> tuple[Any, float] | None:
    if type_of(item) in ("number", "integer"):
        values = [n.value for n in sentence.numbers]
        sentence.numbers.clear()
        return (values, min(1.0, 0.5 * len(values))) if values else None
    if choices := item.get("enum"):
        named = [value for value in choices if isinstance(value, str) and any(_mentions(value, sentence))]
        return (named, 1.0) if named else None
    if type_of(item) == "object":
        one = _object(item, root, sentence)
        return ([one.values], one.evidence) if one.values and not one.missing else None
    quoted = [a or b for a, b in _QUOTED.findall(sentence.text)]
    listed = quoted or [p.strip() for p in re.split(r",|\band\b", sentence.text.partition(":")[2]) if p.strip()]
    return (listed, 1.0) if listed else None


def _text(name: str, prop: Mapping[str, Any], sentence: Sentence, *, is_required: bool) -> tuple[str, float] | None:
    name_stems = stems(name)
    about = name_stems | stems(str(prop.get("description", "")))
    if pattern := _FORMATS.get(str(prop.get("format", ""))):
        match = pattern.search(sentence.text)
        return (match.group(), 2.0) if match else None
    if about & _EXPRESSION:
        return (sentence.expression, 6.0) if sentence.expression else None
    if side := _side(name):
        unit = sentence.source if side == "from" else sentence.target
        if unit:
            return unit, 1.0 if sentence.source and numbers(sentence.text) else 0.25
        return None
    if quoted := _QUOTED.search(sentence.text):
        return quoted[1] or quoted[2], 1.0
    if name_stems & _PLACES:
        place = _PLACE.search(sentence.text) or _PROPER.search(sentence.text)
        return (place[1], 1.0) if place else None
    if following := re.search(
        rf"\b{re.escape(name.replace('_', ' '))}\s+(?:is\s+|of\s+|=\s*|:\s*)?(\S+)", sentence.text, re.I
    ):
        return following[1].rstrip(".,"), 1.0
    if pattern_text := prop.get("pattern"):
        written = _safe_search(str(pattern_text).removeprefix("^").removesuffix("$"), sentence.text)
        return (written, 1.0) if written else None
    if not is_required:
        return None
    if name_stems & _FREE_TEXT:
        topic = _ABOUT.search(sentence.text)
        return (topic[1] if topic else sentence.text), 0.0
    proper = _PROPER.search(sentence.text)
    return (proper[1], 0.5) if proper else (sentence.text, 0.0)


def _safe_search(pattern: str, text: str) -> str | None:
    """A match of a plugin author's pattern, unless it is one that Python cannot read."""
    try:
        match = re.search(pattern, text)
    except re.error:
        return None
    return match.group() if match else None
