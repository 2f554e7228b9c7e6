"""Rows as CSV (RFC 4180), for a spreadsheet that must not take what is in them for formulas."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from control_plane.usage.repository import Row

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_of(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """Models are called what somebody called them; a leading apostrophe has a spreadsheet show it as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_STARTS_A_FORMULA) else value
