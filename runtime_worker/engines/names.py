"""Names that models call things by: made of what authors chose, in the form that every provider accepts."""

import hashlib
import re
from collections.abc import Collection, Iterator

MAX_NAME_CHARS = 64
"""Of a function name, as every provider has it (`^[a-zA-Z0-9_-]{1,64}$`)."""
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


def valid(name: str, *, empty: str, max_chars: int = MAX_NAME_CHARS) -> str:
    """`name` with nothing in it that providers refuse; `empty` when nothing is left."""
    return fitting(_NOT_IN_NAMES.sub("_", name) or empty, max_chars)


def fitting(name: str, max_chars: int = MAX_NAME_CHARS) -> str:
    return name if len(name) <= max_chars else with_digest(name, name, max_chars)


def with_digest(name: str, whole: str, max_chars: int = MAX_NAME_CHARS) -> str:
    return f"{name[: max_chars - 9]}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def first_free(candidates: Iterator[str], taken: Collection[str]) -> str:
    return next(name for name in candidates if name not in taken)
