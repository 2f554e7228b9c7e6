"""Where a request comes from, as far as it can be believed."""

from collections.abc import Sequence
from typing import Any

import pytest
from litestar.connection import ASGIConnection

from control_plane.http.addresses import client_address


def connection(peer: str | None, forwarded: str | None) -> ASGIConnection[Any, Any, Any, Any]:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded is not None else []
    scope: Any = {"type": "http", "client": (peer, 1) if peer else None, "headers": headers, "state": {}}
    return ASGIConnection(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("203.0.113.9", None, (), "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", (), "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", ("10.0.0.0/8",), "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", ("10.0.0.0/8",), "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", ("10.0.0.0/8",), "10.0.0.3"),
        ("10.0.0.1", "<script>", ("10.0.0.0/8",), "10.0.0.1"),
        ("10.0.0.1", "", ("10.0.0.0/8",), "10.0.0.1"),
        ("::1", "2001:db8::7", ("::1",), "2001:db8::7"),
        (None, "198.51.100.1", (), ""),
    ],
)
def test_only_trusted_proxies_are_believed(
    peer: str | None, forwarded: str | None, trusted: Sequence[str], expected: str
) -> None:
    assert client_address(connection(peer, forwarded), trusted) == expected
