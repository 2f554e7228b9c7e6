"""Where requests come from, as far as proxies that stand in front are to be believed."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

IPV6_SITE_BITS = 64
"""What one household or machine gets; a limit on single IPv6 addresses would be none."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def hops_of(forwarded: Iterable[str]) -> list[str]:
    """Of all lines of `X-Forwarded-For`: a proxy may add one of its own below what the caller wrote."""
    return [hop.strip() for line in forwarded for hop in line.split(",") if hop.strip()]


def site_of(address: str) -> str:
    """An IPv4 address, the /64 of an IPv6 one, "" for what is no address."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_SITE_BITS), strict=False))
    return str(parsed or "")
