"""One sentence with its numbers, units and arithmetic, handed out to parameters one by one."""

import re

from deploy.demo.model.expressions import find_expression
from deploy.demo.model.words import STOP_WORDS, Number, numbers, stem

_CONVERSION = re.compile(
    r"(?P<source>°?[^\W\d_]+(?:[ /²³\d]?[^\W\d_]+){0,2}?)\s+(?:to|into|in|as|->|→)\s+(?P<target>°?[^\W\d_][\w°/²³]*)",
    re.I,
)
_HOW_MANY = re.compile(
    r"how (?:many|much) (?P<target>°?[^\W\d_]+)\s+(?:(?:is|are|in|make|makes|equals?)\s+)+"
    r"(?:-?[\d.,]+|an?|one|two|three|four|five|six|seven|eight|nine|ten)\s+(?P<source>°?[^\W\d_]+)",
    re.I,
)
_BEHIND_NUMBER = re.compile(r"\d\s*(?P<unit>°?[^\W\d_][\w°/²³]*)")
_TARGET_ONLY = re.compile(r"\b(?:to|into|in|as)\s+(?P<target>°?[^\W\d_][\w°/²³]*)", re.I)


class Sentence:
    """What is left of a sentence while its numbers and units are handed out."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.numbers = numbers(text)
        self.expression = find_expression(text)
        conversion = _HOW_MANY.search(text) or _CONVERSION.search(text)
        target = conversion or _TARGET_ONLY.search(text)
        self.source = conversion["source"].strip() if conversion else None
        if self.source is None or any(word in STOP_WORDS for word in self.source.lower().split()):
            # `10 km are how much in miles?`: the unit is what stands behind the number.
            behind = _BEHIND_NUMBER.search(text)
            self.source = behind["unit"] if behind else None
        self.target = target["target"] if target else None
        self.taken_choices: set[int] = set()

    def number_near(self, name_stems: frozenset[str]) -> Number | None:
        """The first unused number that follows the parameter's name, else the first unused one."""
        if not self.numbers:
            return None
        for match in re.finditer(r"[^\W\d_]+", self.text):
            if stem(match.group()) in name_stems:
                after = [n for n in self.numbers if 0 <= n.start - match.end() <= 12]
                if after:
                    return self._take(after[0])
        return self._take(self.numbers[0])

    def _take(self, number: Number) -> Number:
        self.numbers.remove(number)
        return number
