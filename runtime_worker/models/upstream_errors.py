"""From what an upstream did to the model error that says it, and whether trying again could help."""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from shared.errors import (
    ModelCredentialRefused,
    ModelError,
    ModelRateLimited,
    ModelRequestRefused,
    ModelUnavailable,
)

RETRIED_STATUSES = frozenset({408, 409, 429})
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
_IDENTIFIER = re.compile(r"[a-zA-Z][a-zA-Z_]{1,47}")
"""No digits and no dashes, which keys and people's words have."""
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Anthropic's error types by the status each has outside of a stream."""


def is_retried(status: int) -> bool:
    return status in RETRIED_STATUSES or status >= 500


def error_of_answer(status: int, retry_after: str | None, body: bytes) -> ModelError:
    """The error for a whole answer that is no success, by its status and by what some providers say only in words."""
    reasons = _reasons(body)
    if "API_KEY_INVALID" in reasons:
        # Google's answer to a wrong key is a 400.
        return error_of_status(401)
    if "content_filter" in reasons:
        # Azure refuses a prompt, rather than the answer to it, with a 400.
        return ModelRequestRefused("the model provider's content filter refused the request")
    wait = retry_after_of(retry_after)
    return error_of_status(status, wait if wait is not None else _retry_delay(body))


def error_of_status(status: int, retry_after_seconds: float | None = None) -> ModelError:
    """The error for an HTTP status that is not a success. Its detail never repeats what the upstream wrote."""
    if status in (401, 403):
        return ModelCredentialRefused(f"the model provider refused the credential (HTTP {status})")
    if status == 429:
        return ModelRateLimited(retry_after_seconds=retry_after_seconds)
    if status in (408, 409) or status >= 500:
        return ModelUnavailable(
            f"the model provider is unavailable (HTTP {status})", retry_after_seconds=retry_after_seconds
        )
    if 300 <= status < 400:
        return ModelUnavailable("the model provider answered with a redirect, which is not followed")
    return ModelRequestRefused(f"the model provider refused the request (HTTP {status})")


def error_in_stream(error: object) -> ModelError:
    """The error for an `{"error": …}` event in the middle of a stream, by the status or type it names."""
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    if isinstance(code, str):
        code = _STATUS_OF_TYPE.get(code, 429 if "rate_limit" in code else None)
    if isinstance(code, int) and 400 <= code < 600:
        return error_of_status(code)
    return ModelUnavailable("the model provider failed in the middle of its answer")


def retry_after_of(header: str | None) -> float | None:
    """Seconds from a `Retry-After` header, which holds either seconds or a date; None when it says nothing usable."""
    if not header:
        return None
    try:
        return _bounded(float(header))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return _bounded((when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None


def _bounded(seconds: float) -> float | None:
    """What may be told on: `inf` and `nan` are numbers to `float`, and no answer could be written with them."""
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def said_kinds(body: bytes) -> list[str]:
    """What an upstream calls its refusal, for the log: identifiers only. Its sentences may repeat a prompt or a key."""
    error = _error_of(body)
    named = [error.get(name) for name in ("type", "code", "status")] if isinstance(error, dict) else []
    named += [detail.get("reason") for detail in _details(error)]
    return [name for name in named if isinstance(name, str) and _IDENTIFIER.fullmatch(name)]


def _error_of(body: bytes) -> Any:
    """The `error` of an error body: an object with most providers, a text with some. Google wraps it into a list where
    it would have sent a stream."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    return decoded.get("error") if isinstance(decoded, dict) else None


def _details(error: Any) -> list[dict[str, Any]]:
    """Google's typed details of an error."""
    details = error.get("details") if isinstance(error, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _reasons(body: bytes) -> set[str]:
    error = _error_of(body)
    found = [error.get("code")] if isinstance(error, dict) else []
    found += [detail.get("reason") for detail in _details(error)]
    return {reason for reason in found if isinstance(reason, str)}


def _retry_delay(body: bytes) -> float | None:
    """Google's `RetryInfo`, which it sends instead of a `Retry-After`: `{"retryDelay": "34s"}`."""
    for detail in _details(_error_of(body)):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and delay.endswith("s"):
            return retry_after_of(delay[:-1])
    return None
