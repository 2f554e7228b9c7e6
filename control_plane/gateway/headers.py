"""Headers on their way through: what belongs to one hop stays there, and the worker learns who really called."""

import ipaddress
from collections.abc import Iterable, Sequence

from litestar.types import HTTPScope

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110 §7.6.1 and §11.7; whatever `Connection` names is added to these."""

_REWRITTEN = frozenset(
    {b"host", b"content-length", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"forwarded", b"accept-encoding"}
)
"""Written anew. No encoding is accepted from a worker, because events are passed on one by one."""

RawHeaders = list[tuple[bytes, bytes]]


class ForwardedHeaders:
    """Writes `X-Forwarded-For` and `-Proto`; believes those that came in only when a trusted proxy sent them."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]

    def of_request(self, scope: HTTPScope) -> RawHeaders:
        """The request's headers for the worker."""
        given: RawHeaders = [(name.lower(), value) for name, value in scope["headers"]]
        kept = without_hop_by_hop(given, also=_REWRITTEN)
        client = scope["client"][0] if scope["client"] else ""
        path, proto = [client] if client else [], scope["scheme"]
        if self._trusts(client):
            path = [*_values(given, b"x-forwarded-for"), *path]
            proto = next(iter(_values(given, b"x-forwarded-proto")), proto)
        kept.append((b"x-forwarded-for", ", ".join(path).encode("latin-1")))
        kept.append((b"x-forwarded-proto", proto.encode("latin-1")))
        return kept

    def _trusts(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def without_hop_by_hop(headers: Iterable[tuple[bytes, bytes]], *, also: frozenset[bytes] = frozenset()) -> RawHeaders:
    """The end-to-end headers, names in lower case."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in lowered if name == b"connection" for part in value.split(b",")}
    dropped = _HOP_BY_HOP | named | also
    return [(name, value) for name, value in lowered if name not in dropped]


def _values(headers: RawHeaders, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]
