"""Where a request comes from, as far as it can be believed."""

from collections.abc import Sequence
from typing import Any

import pytest
from litestar.connection import ASGIConnection

from control_plane.auth.throttle import _keys
from control_plane.http.addresses import client_address
from runtime_worker.http.addresses import client_site
from shared.security.client_addresses import site_of


def connection(peer: str | None, *forwarded: str | None) -> ASGIConnection[Any, Any, Any, Any]:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded if line is not None]
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


def test_a_line_that_a_proxy_added_counts_before_what_the_caller_wrote() -> None:
    lines = connection("10.0.0.1", "6.6.6.6", "198.51.100.1, 10.0.0.2")

    assert client_address(lines, ["10.0.0.0/8"]) == "198.51.100.1"
    assert client_site(connection("10.0.0.1", "6.6.6.6", "198.51.100.1"), []) == "198.51.100.1"
    assert client_site(connection("10.0.0.1", "6.6.6.6", "198.51.100.1", "10.0.0.2"), ["10.0.0.0/8"]) == "198.51.100.1"


def test_whoever_has_a_whole_network_of_addresses_is_one_caller() -> None:
    assert site_of("2001:db8:1:2::7") == site_of("2001:db8:1:2:ffff::1") != site_of("2001:db8:1:3::7")
    assert (site_of("198.51.100.1"), site_of("::ffff:198.51.100.1"), site_of("<script>")) == (
        "198.51.100.1",
        "198.51.100.1",
        "",
    )
    assert _keys("ann", "2001:db8:1:2::7") == _keys("ann", "2001:db8:1:2::8")
