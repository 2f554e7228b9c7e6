"""Arithmetic in a sentence: `what is 15% of (200 + 40)?` holds `15/100*(200 + 40)`."""

import ast
import re

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_SPOKEN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.I), replacement)
    for pattern, replacement in (
        (r"(?<=\d),(?=\d{3}\b)", ""),
        (rf"({_NUMBER})\s*(?:%|percent)\s+of\s+", r"\1/100*"),
        (rf"square root of\s+({_NUMBER})", r"sqrt(\1)"),
        (r"square root of\s*\(", "sqrt("),
        (r"\s+squared\b", "**2"),
        (r"\s+cubed\b", "**3"),
        (r"\s*(?:\^|to the power of|raised to)\s*", "**"),
        (r"(?<=[\d)])\s*(?:multiplied by|times|×|x)\s*(?=[\d(])", "*"),
        (r"(?<=[\d)])\s*(?:divided by|over|÷)\s*(?=[\d(])", "/"),
        (r"(?<=[\d)])\s*plus\s*(?=[\d(])", "+"),
        (r"(?<=[\d)])\s*minus\s*(?=[\d(])", "-"),
        (r"(?<=[\d)])\s*(?:mod|modulo)\s*(?=[\d(])", "%"),
    )
)
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:e[-+]?\d+)?)|(\*\*|//|[-+*/%(),])|((?:[a-z][a-z0-9_]*)(?=\s*\()|pi\b))", re.I)
_SKIP = re.compile(r"\s*\w+|\s*\W|\s+")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
OPERATOR_WORDS = {"+": "add sum plus", "-": "subtract minus", "*": "multiply product", "/": "divide", "**": "power"}


def find_expression(text: str) -> str | None:
    """The longest piece of arithmetic in `text`, in Python notation; None when there is none."""
    spoken = _DATE.sub(" ", text)
    for pattern, replacement in _SPOKEN:
        spoken = pattern.sub(replacement, spoken)
    candidates = (found for run in _runs(spoken) if (found := _trimmed(run)))
    return max(candidates, key=len, default=None)


def operator_words(expression: str) -> str:
    """English for the operators of an expression, so that `3 + 4` finds a tool named `add`."""
    return " ".join(words for sign, words in OPERATOR_WORDS.items() if sign in expression)


def _runs(text: str) -> list[list[str]]:
    """Maximal stretches of numbers, operators and calls."""
    runs: list[list[str]] = [[]]
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match:
            runs[-1].append(match.group().strip())
            position = match.end()
        else:
            if runs[-1]:
                runs.append([])
            position = _SKIP.match(text, position).end()  # type: ignore[union-attr]  # it matches any character
    return runs


def _trimmed(run: list[str]) -> str | None:
    """The longest front part of a run that parses and computes something, after dropping what dangles before it."""
    for start in range(len(run)):
        for end in range(len(run), start + 1, -1):
            try:
                body = ast.parse(" ".join(run[start:end]), mode="eval").body
            except SyntaxError:
                continue
            if isinstance(body, ast.BinOp) or (isinstance(body, ast.Call) and isinstance(body.func, ast.Name)):
                return ast.unparse(body)
    return None
