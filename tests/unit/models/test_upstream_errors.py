from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest

from runtime_worker.models.upstream_errors import (
    error_in_stream,
    error_of_answer,
    error_of_status,
    retry_after_of,
    said_kinds,
)

KEY = "sk-live-abcdefghijklmnop"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "LL-0002"),
        (403, "LL-0002"),
        (429, "LL-0003"),
        (400, "LL-0004"),
        (404, "LL-0004"),
        (422, "LL-0004"),
        (302, "LL-0005"),
        (408, "LL-0005"),
        (500, "LL-0005"),
        (529, "LL-0005"),
    ],
)
def test_every_status_has_its_code(status: int, code: str) -> None:
    assert error_of_status(status).code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": 429}, "LL-0003"),
        ({"code": "429"}, "LL-0003"),
        ({"type": "rate_limit_exceeded"}, "LL-0003"),
        ({"code": 401, "message": KEY}, "LL-0002"),
        ({"type": "authentication_error"}, "LL-0002"),
        ({"type": "rate_limit_error"}, "LL-0003"),
        ({"type": "invalid_request_error"}, "LL-0004"),
        ({"type": "overloaded_error"}, "LL-0005"),
        ({"message": "overloaded"}, "LL-0005"),
        ("overloaded", "LL-0005"),
    ],
)
def test_an_error_event_has_a_code_and_is_not_repeated(error: object, code: str) -> None:
    found = error_in_stream(error)
    assert found.code == code
    assert KEY not in found.detail
    assert "overloaded" not in found.detail


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"details": [{"reason": "API_KEY_INVALID"}]}, "LL-0002"),
        (400, {"details": [{"reason": "SOMETHING_ELSE"}]}, "LL-0004"),
        (400, {"code": "content_filter"}, "LL-0004"),
        (429, {"details": "none"}, "LL-0003"),
        (503, "overloaded", "LL-0005"),
    ],
)
def test_some_providers_say_in_words_what_others_say_by_status(status: int, body: object, code: str) -> None:
    assert error_of_answer(status, None, msgspec.json.encode({"error": body})).code == code


def test_a_header_says_more_about_the_wait_than_a_body() -> None:
    body = msgspec.json.encode([{"error": {"details": [{"retryDelay": "34.5s"}]}}])
    assert error_of_answer(429, None, body).retry_after_seconds == 34.5
    assert error_of_answer(429, "7", body).retry_after_seconds == 7
    assert error_of_answer(429, None, b"[]").retry_after_seconds is None
    assert error_of_answer(429, None, body.replace(b"34.5s", b"soon s")).retry_after_seconds is None


def test_retry_after_may_be_seconds_or_a_date() -> None:
    assert retry_after_of("7") == 7
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after_of(in_a_minute) or 0) <= 60
    assert retry_after_of(None) is None
    for nothing_usable in ("soon", "inf", "nan", "1e999", "Fri, 31 Dec 99999 23:59:59 GMT"):
        assert retry_after_of(nothing_usable) is None
    assert retry_after_of("1e300") == 24 * 3600


def test_what_an_upstream_calls_its_refusal_is_logged_and_nothing_that_it_repeats() -> None:
    message = f"Incorrect API key provided: {KEY}. You asked: where is the treasure?"
    openai = {"message": message, "type": "invalid_request_error", "param": "treasure", "code": "invalid_api_key"}
    google = {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}
    assert said_kinds(encoded(openai)) == ["invalid_request_error", "invalid_api_key"]
    assert said_kinds(encoded(google)) == ["INVALID_ARGUMENT", "API_KEY_INVALID"]
    assert said_kinds(encoded({"type": message, "code": KEY, "details": [{"reason": "where is it"}]})) == []


def encoded(error: object) -> bytes:
    return msgspec.json.encode({"error": error})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"error": {"message": 1}}', b"\xff\xfe", b"[" * 10_000])
def test_an_error_body_of_another_form_says_nothing(body: bytes) -> None:
    assert said_kinds(body) == []
