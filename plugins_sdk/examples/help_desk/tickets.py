"""Where tickets come from. A real plugin would ask the help desk's server; this one reads the file beside it."""

import json
from pathlib import Path
from typing import Any

_TICKETS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "tickets.json").read_text())


def find_ticket(ticket_id: str) -> dict[str, Any] | None:
    return _TICKETS.get(ticket_id)
