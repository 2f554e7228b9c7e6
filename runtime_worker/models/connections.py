"""The process's one way out to models: one connector and one TLS context (17 ms and 0.8 MB each)."""

import socket
import ssl
from functools import cache
from typing import Any, Self

from aiohttp import ClientRequest, ClientTimeout, TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from shared.security.addresses import is_refused_address

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 45.0
"""Below the minute after which common load balancers drop an idle connection from their side."""
DNS_CACHE_SECONDS = 30
_TIMEOUT = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)


class RefusedAddress(OSError):
    """A name resolved to an address that models may not be called at."""


class GuardedResolver(AbstractResolver):
    """Resolves like the system, then refuses the name when any of its addresses is refused.

    A tenant owns the name and decides what it resolves to after it was saved; one public address among private ones
    is how such a name gets past a check that looks at the first only.
    """

    def __init__(self, inner: AbstractResolver, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if any(is_refused_address(result["host"], allow_private=self._allow_private) for result in found):
            raise RefusedAddress("the name resolves to an address that may not be called")
        return found

    async def close(self) -> None:
        await self._inner.close()


class GuardedSockets:
    """Refuses an address at the moment it is connected to: a host written as an address never meets the resolver."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    def __call__(self, address: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if is_refused_address(host, allow_private=self._allow_private):
            raise RefusedAddress("the address may not be called")
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        return sock


@cache
def _tls_context() -> ssl.SSLContext:
    """Reading the system's certificates is what is dear about it, and they are the same for everybody."""
    return ssl.create_default_context()


class ModelConnections:
    """Opened in the running loop at start, closed at shutdown. Tenants share sockets, never credentials.

    Environment proxies are not used: they would connect past the resolver's check.
    """

    def __init__(self, *, allow_private: bool, resolver: AbstractResolver | None = None) -> None:
        self.allow_private = allow_private
        self._resolver = resolver
        self._connector: TCPConnector | None = None

    async def lend(self, request: ClientRequest) -> Connection:
        """A connection to where `request` goes; whoever has it gives it back. Raises ClientError and OSError."""
        if self._connector is None:
            raise RuntimeError("model connections are not open")
        return await self._connector.connect(request, [], _TIMEOUT)

    async def open(self) -> Self:
        self._connector = TCPConnector(
            limit=0,
            ssl=_tls_context(),
            resolver=GuardedResolver(self._resolver or ThreadedResolver(), allow_private=self.allow_private),
            socket_factory=GuardedSockets(allow_private=self.allow_private),
            ttl_dns_cache=DNS_CACHE_SECONDS,
            keepalive_timeout=KEEPALIVE_SECONDS,
        )
        return self

    async def close(self) -> None:
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
