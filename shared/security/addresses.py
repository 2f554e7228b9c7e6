"""Which addresses a URL of a tenant's may point to (SSRF): checked at save and again on every resolved address."""

import ipaddress
import re
from urllib.parse import urlsplit

from shared.errors import ModelAddressRefused

_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)
"""Where clouds serve instance credentials; never called, whatever is allowed."""

_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")))
"""IPv6 that gateways and kernels take for the IPv4 address in its last 32 bits."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


def is_refused_address(address: str, *, allow_private: bool) -> bool:
    """Whether nothing of a tenant's may be called at this IP address.

    Link-local, metadata, multicast and unspecified addresses always; private and loopback ones unless allowed.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address):
        ip = _embedded(ip) or ip
    if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return True
    if ip.is_loopback or ip.is_private:
        return not allow_private
    return not ip.is_global


def check_model_url(url: str, *, allow_private: bool) -> None:
    """Raise ModelAddressRefused unless a model may be called at `url`, as far as that can be told without resolving."""
    if problem := url_problem(url, allow_private=allow_private):
        raise ModelAddressRefused(f"base_url {problem}")


def url_problem(url: str, *, allow_private: bool) -> str | None:
    """Why `url` may not be called, worded to follow its name: it is no http(s) URL, or its host is a refused address.

    A name is not resolved here: what it resolves to can change, so clients check each address they connect to.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https") or not host:
        return "must start with https:// or http:// and name a host"
    if parts.username or parts.password:
        return "must not hold credentials"
    if parts.scheme == "http" and not allow_private:
        return "must use https"
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        host = "127.0.0.1"
    if _is_literal(host):
        if is_refused_address(host, allow_private=allow_private):
            return "points to an address that is private or reserved"
    elif not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        # `127.1`, `2130706433`, `0x7f.1` and `①②⑦.0.0.1` are addresses to whoever connects, though not to us.
        return "must name its host in plain ASCII: a name, or a complete IP address"
    return None


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip.sixtofour:
        return ip.sixtofour
    if int(ip) > 1 and any(ip in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
