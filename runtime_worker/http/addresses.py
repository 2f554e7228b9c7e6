"""Where a request comes from."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from litestar.connection import ASGIConnection

from shared.security.client_addresses import hops_of, parse_address, site_of


def client_address(connection: ASGIConnection[Any, Any, Any, Any], trusted_proxies: Sequence[str]) -> str:
    """The caller's IP address, or "" when the transport has none.

    Only the gateway reaches a worker, so its word is taken: the last entry of `X-Forwarded-For` is whom it saw. Past
    proxies that we trust the one before counts; everything further left is what the caller chose to write.
    """
    hops = hops_of(connection.headers.getall("x-forwarded-for", []))
    address = connection.client.host if connection.client else ""
    networks = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]
    while hops:
        address = hops.pop()
        parsed = parse_address(address)
        if parsed is None or not any(parsed in network for network in networks):
            break
    return str(parse_address(address) or "")


def client_site(connection: ASGIConnection[Any, Any, Any, Any], trusted_proxies: Sequence[str]) -> str:
    """What a limit on single callers is counted by: the address, or the /64 of an IPv6 one."""
    return site_of(client_address(connection, trusted_proxies))
