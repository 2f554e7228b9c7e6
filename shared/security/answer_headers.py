"""Headers of every answer, for browsers that come across an API: it shows nothing, is in no frame, and is not kept."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from shared.errors import HeadersTooLarge
from shared.problems import PROBLEM_MEDIA_TYPE, problem_of

RawHeaders = list[tuple[bytes, bytes]]

MAX_HEADER_BYTES = 32 * 1024
"""Of a request, names and values together. Ours need a few hundred; cookies of a shared domain may add thousands."""

_API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
_ALWAYS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", _API_POLICY),
    # Answers hold what is somebody's alone, and some of them a token or a key that is shown once.
    (b"cache-control", b"no-store"),
]


class AnswerHeaders:
    """Adds what an answer does not say itself. `hsts_seconds` is for deployments that are reached over TLS only."""

    def __init__(self, hsts_seconds: int = 0) -> None:
        self._wanted = list(_ALWAYS)
        if hsts_seconds:
            policy = f"max-age={hsts_seconds}; includeSubDomains".encode()
            self._wanted.append((b"strict-transport-security", policy))

    def added_to(self, headers: Iterable[tuple[bytes, bytes]], *also: tuple[bytes, bytes]) -> RawHeaders:
        """The headers of an answer with those that were missing, and `also`."""
        given = list(headers)
        names = {name.lower() for name, _ in given}
        return [*given, *also, *(header for header in self._wanted if header[0] not in names)]


def are_too_large(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES


async def refuse_large_headers(send: Callable[[Any], Awaitable[None]], request_id: str) -> None:
    """Answer 431 before anything else looks at the request."""
    problem = problem_of(HeadersTooLarge(), request_id=request_id)
    headers = [(b"content-type", PROBLEM_MEDIA_TYPE.encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(problem), "more_body": False})
