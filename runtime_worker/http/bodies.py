"""Reading JSON bodies strictly: exactly the types a struct names, unknown fields refused, problems with their path."""

from functools import cache
from typing import TypeVar

import msgspec

from runtime_worker.http.callers import AnyRequest
from shared.errors import FieldError, InvalidRequest, MalformedRequest, UnsupportedMediaType

T = TypeVar("T", bound=msgspec.Struct)

MAX_JSON_BYTES = 1024 * 1024


async def read_body(request: AnyRequest, kind: type[T]) -> T:
    """The typed body. Raises UnsupportedMediaType, MalformedRequest or InvalidRequest.

    Not Litestar's own reading: that converts the way query strings are, `"5"` to 5 and `"true"` to true.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given and given != "application/json" and not given.endswith("+json"):
        raise UnsupportedMediaType("this route takes application/json")
    body = await request.body()
    if not body:
        raise MalformedRequest("a JSON body is required")
    try:
        found: T = _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest("the request body breaks a rule", errors=(_field_error(error),)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedRequest("the body is not valid JSON") from None
    except RecursionError:
        raise MalformedRequest("the body is nested too deeply") from None
    return found


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


def _field_error(error: msgspec.ValidationError) -> FieldError:
    """msgspec says ``Expected `int`, got `str` - at `$.message```; the path becomes the field."""
    message, _, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".").replace("[...]", "")
    if not field and "unknown field" in message:
        return FieldError(message.rpartition("unknown field `")[2].rstrip("`"), "unknown", "this field is not known")
    return FieldError(field or "body", "invalid", message)
