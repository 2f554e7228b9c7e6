"""The strict reading of request bodies, before Litestar's own lenient one.

Litestar converts bodies the way it converts query strings: `"true"` becomes true and `"5"` becomes 5. A JSON API says
what it accepts and accepts nothing else, so the bytes are checked against the handler's type here, and every problem is
told with its dotted path.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import RequestEncodingType
from litestar.params import BodyKwarg

from shared.errors import FieldError, InvalidRequest, MalformedRequest, UnsupportedMediaType

MAX_JSON_BYTES = 1024 * 1024

MAX_JSON_DEPTH = 64
"""Whatever walks through a stored value later does so recursively, within what Python's stack takes."""

AnyRequest = Request[Any, Any, Any]


async def check_body(request: AnyRequest) -> None:
    """Raises UnsupportedMediaType, MalformedRequest or InvalidRequest for a body the handler cannot take.

    A BodyTooLarge comes from reading it: Litestar counts the bytes against the handler's `request_max_body_size`.
    """
    field = request.route_handler.parsed_data_field
    if field is None:
        return
    encoding = field.kwarg_definition.media_type if isinstance(field.kwarg_definition, BodyKwarg) else None
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if encoding is not None and encoding != RequestEncodingType.JSON:
        if given != encoding:
            raise UnsupportedMediaType(f"this route takes {encoding}")
        return
    if given and given != "application/json" and not given.endswith("+json"):
        raise UnsupportedMediaType("this route takes application/json")
    body = await request.body()
    if not body:
        if field.has_default:
            return
        raise MalformedRequest("a JSON body is required")
    decode_strictly(body, field.annotation)


def decode_strictly(body: bytes, kind: Any) -> Any:
    """The typed value of a JSON body. Raises MalformedRequest or InvalidRequest."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedRequest("the body is not valid JSON") from None
    except RecursionError:
        raise MalformedRequest("the body is nested too deeply") from None
    # Checked by bytes first: few bodies have so many brackets that they could be nested that deeply.
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and _depth(value) > MAX_JSON_DEPTH:
        raise MalformedRequest(f"the body is nested more than {MAX_JSON_DEPTH} levels deep")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as first:
        raise InvalidRequest("the request body breaks a rule", errors=_field_errors(value, kind, first)) from None


def _depth(value: Any) -> int:
    """How deeply lists and objects are nested, found without recursion."""
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _inner(outer)]:
        depth += 1
    return depth


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _field_errors(value: Any, kind: Any, first: msgspec.ValidationError) -> tuple[FieldError, ...]:
    """One problem per top-level field, where msgspec itself stops at the first."""
    if not isinstance(value, dict) or not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return (field_error(first),)
    problems: list[FieldError] = []
    known = {info.encode_name: info for info in msgspec.structs.fields(kind)}
    for name, info in known.items():
        if name not in value:
            if info.required:
                problems.append(FieldError(name, "missing", "this field is required"))
            continue
        try:
            msgspec.convert(value[name], info.type)
        except msgspec.ValidationError as error:
            problems.append(field_error(error, name))
    if kind.__struct_config__.forbid_unknown_fields:
        problems.extend(FieldError(name, "unknown", "this field is not known") for name in value if name not in known)
    return tuple(problems) or (field_error(first),)


def field_error(error: msgspec.ValidationError, prefix: str = "") -> FieldError:
    """msgspec says ``Expected `int`, got `str` - at `$.config.rounds```; the path becomes the field."""
    message, _, path = str(error).partition(" - at `$")
    field = (prefix + path.rstrip("`")).lstrip(".").replace("[...]", "")
    return FieldError(field or "body", "invalid", message)
