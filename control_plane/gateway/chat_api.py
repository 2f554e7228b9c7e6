"""What the OpenAPI document says of the routes that the gateway passes on: the workers' own description of them."""

from importlib import resources
from typing import Any

import msgspec


def add_chat_api(doc: dict[str, Any]) -> None:
    """Add the chat routes to the control plane's document. `chat_api.json` is printed by `runtime_worker.openapi`."""
    part = msgspec.json.decode(resources.files(__package__).joinpath("chat_api.json").read_bytes())
    doc["paths"].update(part["paths"])
    schemas: dict[str, Any] = doc["components"]["schemas"]
    for name, schema in part["schemas"].items():
        schemas.setdefault(name, schema)
