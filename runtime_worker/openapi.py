"""`python -m runtime_worker.openapi`: print what the gateway serves of a worker, as the OpenAPI document it is part of.

The control plane answers on the same port and adds this to its own document (`control_plane/gateway/chat_api.json`).
"""

import json
import re
import sys
from typing import Any

from runtime_worker.app import create_app
from runtime_worker.http.openapi import document
from shared.settings import read_worker_settings

PUBLIC_PREFIX = "/api/orgs/"
# An application must be configured in order to be described; it connects to nothing, and nothing of this is printed.
_PLACEHOLDERS = {
    "CADENCE_SECRET_KEY": "0" * 64,
    "CADENCE_WORKER_TOKEN": "0" * 64,
    "CADENCE_ENCRYPTION_KEYS": "none:" + "0" * 64,
    "CADENCE_CONTROL_PLANE_URL": "http://nowhere",
    "CADENCE_MONGO_URL": "mongodb://nowhere",
    "CADENCE_REDIS_URL": "redis://nowhere",
    "CADENCE_BROKER_URL": "nats://nowhere",
    "CADENCE_STORAGE_ROOT": ".",
}


def chat_api() -> str:
    """Paths below `/api/orgs/` and the schemas they use, as JSON text that is the same for the same routes."""
    whole: dict[str, Any] = document(create_app(read_worker_settings(_PLACEHOLDERS)))
    paths = {path: item for path, item in whole["paths"].items() if path.startswith(PUBLIC_PREFIX)}
    part = {"paths": paths, "schemas": _used(paths, whole["components"]["schemas"])}
    # `Page[ThingOut]` is called `ThingPage`, as in the control plane's own part.
    text = re.sub(r"Page_[\w.]*?(\w+?)(?:Out)?_(?=\")", r"\1Page", json.dumps(part, ensure_ascii=False))
    return json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _used(paths: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schemas that the paths refer to, directly or through another."""
    used: dict[str, Any] = {}
    waiting = _names(paths)
    while waiting:
        name = waiting.pop()
        if name not in used:
            used[name] = schemas[name]
            waiting |= _names(schemas[name])
    return used


def _names(node: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(node)))


if __name__ == "__main__":
    sys.stdout.write(chat_api())
