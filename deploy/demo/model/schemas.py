"""Reading JSON schemas the way pydantic writes them."""

from collections.abc import Mapping
from typing import Any


def resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind `$ref`, a nullable union or a one-element `allOf`."""
    for _ in range(16):
        if isinstance(ref := schema.get("$ref"), str):
            target: Any = root
            for part in ref.removeprefix("#/").split("/"):
                target = target.get(part, {}) if isinstance(target, Mapping) else {}
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
        elif options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            chosen: Mapping[str, Any] = next((o for o in options if o.get("type") != "null"), {})
            rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "allOf")}
            schema = {**chosen, **rest}
        else:
            break
    return schema


def type_of(schema: Mapping[str, Any]) -> str:
    """The JSON type of a resolved schema, the first one that is not null."""
    declared = schema.get("type")
    if isinstance(declared, list):
        declared = next((t for t in declared if t != "null"), "string")
    if declared is None:
        declared = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(declared)
