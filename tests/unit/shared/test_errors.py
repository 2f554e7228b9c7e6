"""The error catalogue and how it looks on the wire."""

import re
from collections import Counter

import msgspec

from shared.errors import (
    DomainError,
    FieldError,
    InvalidRequest,
    Kind,
    NotAuthenticated,
    RateLimited,
    StoreUnavailable,
    catalogue,
)
from shared.problems import STATUS_BY_KIND, headers_of, problem_of


def test_every_code_belongs_to_exactly_one_error() -> None:
    counts = Counter(cls.code for cls in catalogue())

    assert [code for code, count in counts.items() if count > 1] == []
    assert all(re.fullmatch(r"(SY|VA|AU|AZ|RE|RL|OR|PL|LL|DB|CF)-\d{4}", code) for code in counts)


def test_every_kind_has_a_status() -> None:
    assert set(STATUS_BY_KIND) == set(Kind)


def test_a_problem_names_its_fields() -> None:
    error = InvalidRequest("bad", errors=(FieldError("a.b", "invalid", "not so"),))

    body = msgspec.json.decode(msgspec.json.encode(problem_of(error, instance="/x", request_id="r")))

    assert body == {
        "type": "https://cadence.dev/problems/va-0002",
        "title": "The request breaks a rule",
        "status": 422,
        "code": "VA-0002",
        "detail": "bad",
        "instance": "/x",
        "request_id": "r",
        "errors": [{"field": "a.b", "code": "invalid", "message": "not so"}],
    }


def test_what_may_be_tried_again_says_when() -> None:
    assert headers_of(StoreUnavailable())["Retry-After"] == "2"
    assert headers_of(RateLimited(retry_after_seconds=0.2, limit=10)) == {
        "Retry-After": "1",
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "1",
    }
    assert headers_of(NotAuthenticated()) == {"WWW-Authenticate": "Bearer"}
    assert headers_of(DomainError()) == {}
