"""Values that satisfy a JSON schema, for requests that want structured output."""

from collections.abc import Mapping
from typing import Any

from deploy.demo.model.arguments import fill
from deploy.demo.model.schemas import resolve, type_of
from deploy.demo.model.words import stems

_AFFIRMED = frozenset(
    {
        "valid",
        "ok",
        "okay",
        "pass",
        "passed",
        "approved",
        "supported",
        "success",
        "complete",
        "correct",
        "grounded",
    }
)
_TEXTS = frozenset({"answer", "response", "text", "message", "content", "summary", "reply", "output"})
MAX_DEPTH = 12


def example(schema: Mapping[str, Any], question: str, text: str) -> Any:
    """An instance of `schema`: what the question gives where it gives something, else plain defaults.

    Booleans that ask whether all is well are true, the others false; `text` fills string fields made for an answer.
    """
    found = fill(schema, question).values if question else {}
    return _value("", schema, schema, found, text, 0)


def _value(name: str, raw: Mapping[str, Any], root: Mapping[str, Any], found: Any, text: str, depth: int) -> Any:
    schema = resolve(raw, root)
    if "const" in schema:
        return schema["const"]
    if "default" in schema and not found:
        return schema["default"]
    if choices := schema.get("enum"):
        return found if found in choices else choices[0]
    match type_of(schema):
        case "object":
            given = found if isinstance(found, dict) else {}
            required = schema.get("required", [])
            wanted = [k for k in schema.get("properties", {}) if k in required or k in given]
            if depth >= MAX_DEPTH:
                wanted = [k for k in wanted if k in required]
            return {k: _value(k, schema["properties"][k], root, given.get(k), text, depth + 1) for k in wanted}
        case "array":
            items = found if isinstance(found, list) else []
            lacking = int(schema.get("minItems", 0)) - len(items)
            return [
                *items,
                *(_value(name, schema.get("items", {}), root, None, text, depth + 1) for _ in range(lacking)),
            ]
        case "boolean":
            return bool(stems(name) & _AFFIRMED or name.lower().startswith("in_"))
        case "integer" | "number" as kind:
            return _number(schema, found, whole=kind == "integer")
        case "null":
            return None
        case _:
            return _text(name, schema, found, text)


def _number(schema: Mapping[str, Any], found: Any, *, whole: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0 if schema.get("maximum", 0) >= 0 else None))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    value = (
        found if isinstance(found, int | float) and not isinstance(found, bool) else low if low is not None else high
    )
    if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum") == low)):
        value = low + 1 if whole else low + (min(1, (high - low) / 2) if high is not None else 1)
    if high is not None and value > high:
        value = high
    return int(value) if whole else value


def _text(name: str, schema: Mapping[str, Any], found: Any, text: str) -> str:
    value = found if isinstance(found, str) else text if stems(name) & _TEXTS else f"{name or 'value'} as expected"
    value = value.ljust(int(schema.get("minLength", 0)), ".")
    return value[: int(schema["maxLength"])] if "maxLength" in schema else value
