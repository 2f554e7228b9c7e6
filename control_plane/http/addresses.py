"""Where a request really comes from, when trusted proxies stand in front."""

import ipaddress
from collections.abc import Sequence
from functools import cache
from typing import Any

from litestar.connection import ASGIConnection

from shared.security.client_addresses import hops_of, parse_address


def client_address(connection: ASGIConnection[Any, Any, Any, Any], trusted_proxies: Sequence[str]) -> str:
    """The caller's IP address, or "" when the transport has none.

    `X-Forwarded-For` is read from the right and only past proxies we trust: everything further left is what the caller
    chose to write.
    """
    peer = connection.client.host if connection.client else ""
    networks = _networks(tuple(trusted_proxies))
    hops = hops_of(connection.headers.getall("x-forwarded-for", []))
    address = peer
    while _is_within(address, networks) and hops:
        address = hops.pop()
    return address if parse_address(address) else peer


@cache
def _networks(trusted: tuple[str, ...]) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Settings are read once, so this is one entry."""
    return [ipaddress.ip_network(network, strict=False) for network in trusted]


def _is_within(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    parsed = parse_address(address)
    return parsed is not None and any(parsed in network for network in networks)
