"""Which addresses a tenant's `base_url` may point to (SSRF): checked at save and again on every resolved address."""

import ipaddress
from urllib.parse import urlsplit

from shared.errors import ModelAddressRefused

_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)
"""Where clouds serve instance credentials; never called, whatever is allowed."""


def is_refused_address(address: str, *, allow_private: bool) -> bool:
    """Whether a model may not be called at this IP address.

    Link-local, metadata, multicast and unspecified addresses always; private and loopback ones unless allowed.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return True
    if ip.is_loopback or ip.is_private:
        return not allow_private
    return not ip.is_global


def check_model_url(url: str, *, allow_private: bool) -> None:
    """Raise ModelAddressRefused unless `url` is an http(s) URL whose host is not a refused address.

    A name is not resolved here: what it resolves to can change, so the model client checks each address it connects to.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ModelAddressRefused("base_url is not a valid URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ModelAddressRefused("base_url must start with https:// or http:// and name a host")
    if parts.username or parts.password:
        raise ModelAddressRefused("base_url must not hold credentials; put the key into api_key")
    if parts.scheme == "http" and not allow_private:
        raise ModelAddressRefused("base_url must use https")
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        host = "127.0.0.1"
    if _is_literal(host) and is_refused_address(host, allow_private=allow_private):
        raise ModelAddressRefused("base_url points to an address that is private or reserved")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
