"""Words, numbers and clauses of plain English, as far as rules get."""

import re
from collections.abc import Iterator

import msgspec

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NUMBER = re.compile(r"(?<![\w.])(?:(?<![\d)])-)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?![\d])", re.I)
_STRONG_BREAK = re.compile(r"[?!;\n]+|(?<=\D)\.(?=\s|$)|\.(?=\s+[A-Z]|\s*$)")
WEAK_BREAK = re.compile(
    r",\s*(?:and\s+|then\s+|also\s+)*|\s+(?:and\s+then|and\s+also|and|then|also|plus\s+also)\s+", re.I
)

NUMBER_WORDS: dict[str, int] = {
    name: value
    for value, name in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
} | {"dozen": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "thousand": 1000}

_STOP_TEXT = """
a about all am an and any are as at be been but by can could did do does for from get give go had has have hello hey
hi how i if in into is it its just let like make many me much my need no not of ok on one or our out please s should
so some such t tell than thank thanks that the their them then there these they this those to too use used uses
using was we were what whats when where which who why will with would yes you your yourself
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())

_SAME = {
    "compute": "calculate", "calculator": "calculate", "calculation": "calculate", "evaluate": "calculate",
    "math": "calculate", "mathematical": "calculate", "arithmetic": "calculate",
    "conversion": "convert", "converter": "convert", "conver": "convert",
    "find": "search", "lookup": "search", "display": "show", "list": "show", "delete": "remove", "weigh": "weight",
}  # fmt: skip


class Number(msgspec.Struct, frozen=True):
    """A number as written at `start:end` of a text."""

    value: int | float
    start: int
    end: int


def stem(word: str) -> str:
    """A crude root, good enough to see that `miles` and `mile`, `converting` and `convert` are one."""
    word = word.lower()
    if len(word) > 5 and word.endswith("ing"):
        word = word[:-3]
    elif len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        word = word[:-2]
    elif len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return _SAME.get(word, word)


def stems(text: str) -> frozenset[str]:
    """The roots of the telling words of a text or an identifier (`convertUnits`, `convert_units`)."""
    spaced = _CAMEL.sub(" ", text)
    return frozenset(
        stem(w) for w in _WORD.findall(spaced) if w.lower() not in STOP_WORDS and not w.isdigit() and len(w) > 1
    )


def numbers(text: str) -> list[Number]:
    """The numbers of a text in order; number words count only where there are no digits."""
    found = [Number(_value(m.group()), m.start(), m.end()) for m in _NUMBER.finditer(text)]
    if found:
        return found
    return [
        Number(NUMBER_WORDS[m.group().lower()], m.start(), m.end())
        for m in _WORD.finditer(text)
        if m.group().lower() in NUMBER_WORDS
    ]


def sentences(text: str) -> Iterator[str]:
    """The parts between full stops, question marks and line ends."""
    for part in _STRONG_BREAK.split(text):
        if part.strip():
            yield part.strip()


def token_count(text: str) -> int:
    """Tokens as the demo model counts them: words and single signs."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def _value(text: str) -> int | float:
    plain = text.replace(",", "")
    return float(plain) if re.search(r"[.eE]", plain) else int(plain)
