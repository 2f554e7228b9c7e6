"""JSON schemas by file name, from the structs that are encoded and decoded."""

import json
from typing import Any

import msgspec

from shared.events import AnyEvent
from shared.purges import PurgePage, PurgeReport
from shared.retention import RetentionPage
from shared.security.grants import Grant
from shared.snapshots import ChangePage, OrchestratorSnapshot
from shared.usage import RunFinished
from shared.workers import InstanceState, WorkerRecord

CONTRACTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "events.json": ("Events between the planes, by routing key", tuple(AnyEvent.__args__)),
    "snapshots.json": (
        "What workers get over /internal",
        (OrchestratorSnapshot, ChangePage, RetentionPage, Grant, PurgePage, PurgeReport),
    ),
    "usage.json": ("What runs used, in the stream that it is counted from", (RunFinished,)),
    "workers.json": ("What workers write into the registry", (WorkerRecord, InstanceState)),
}


def generate(name: str) -> str:
    """The text of one contract file, the same for the same structs."""
    title, types = CONTRACTS[name]
    roots, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "anyOf": list(roots),
        "$defs": {key: _without_docstrings(components[key]) for key in sorted(components)},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _without_docstrings(schema: dict[str, Any]) -> dict[str, Any]:
    # msgspec puts docstrings in; rewording one is no change of the wire.
    return {key: value for key, value in schema.items() if key != "description"}
