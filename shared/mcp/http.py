"""The HTTP client for MCP servers: to public addresses only, without proxies, with answers of bounded size.

A tenant owns the server and its name. So every name is resolved here, refused when any of its addresses is, and then
connected to at exactly the address that was checked; a name that resolves elsewhere a moment later changes nothing.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from typing import cast

import httpx2

from shared.security.addresses import is_refused_address

MAX_ANSWER_BYTES = 1024 * 1024
"""Of one answer that is no event stream; an event of a stream has the same limit from the library. Both are parsed on
the loop, in some ten milliseconds at this size."""
MAX_CONNECTIONS = 20
CONNECT_SECONDS = 10.0
DNS_CACHE_SECONDS = 30.0
_SESSION = "mcp-session-id"


class AddressRefused(httpx2.TransportError):
    """The server's name resolves to an address that may not be called."""


class AnswerRefused(httpx2.StreamError):
    """An answer is larger than allowed, or compressed although nobody asked for that."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Connects to the server's checked addresses. `status` is that of its last answer, to explain a failure with.

    `on_session_gone` is called when the server does not know the session of a request, which it then did not look at.
    """

    def __init__(self, *, allow_private: bool, on_session_gone: Callable[[], None]) -> None:
        self._allow_private = allow_private
        self._on_session_gone = on_session_gone
        self._inner = httpx2.AsyncHTTPTransport(
            verify=_tls_context(), trust_env=False, limits=httpx2.Limits(max_connections=MAX_CONNECTIONS)
        )
        self._resolved: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}
        self.status: int | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        unreachable: httpx2.TransportError = httpx2.ConnectError("the name has no address")
        for address in await self._addresses(host, port):
            try:
                response = await self._inner.handle_async_request(_pinned(request, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                # Nothing was sent yet, so the next address may have it whole.
                unreachable = error
                continue
            self.status = response.status_code
            if self.status == httpx2.codes.NOT_FOUND and _SESSION in request.headers:
                self._on_session_gone()
            return await _bounded(response)
        raise unreachable

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _addresses(self, host: str, port: int) -> tuple[str, ...]:
        expires, addresses = self._resolved.get((host, port), (0.0, ()))
        if expires > time.monotonic():
            return addresses
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpx2.ConnectError("the name does not resolve") from error
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        # One public address among private ones is how a name gets past a check that looks at the first only.
        if any(is_refused_address(address, allow_private=self._allow_private) for address in addresses):
            raise AddressRefused("the name resolves to an address that is private or reserved")
        self._resolved = {(host, port): (time.monotonic() + DNS_CACHE_SECONDS, addresses)}
        return addresses


def http_client(transport: GuardedTransport, headers: Mapping[str, str]) -> httpx2.AsyncClient:
    """Reads wait as long as the caller does: streams of changes are silent for hours."""
    return httpx2.AsyncClient(
        transport=transport,
        headers={**headers, "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(CONNECT_SECONDS, read=None),
        trust_env=False,
    )


@cache
def _tls_context() -> ssl.SSLContext:
    """One for the process: 17 ms and 0.8 MB each."""
    return ssl.create_default_context()


def _pinned(request: httpx2.Request, address: str) -> httpx2.Request:
    """The same request to an address; `Host` and the name on the certificate stay the server's."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


async def _bounded(response: httpx2.Response) -> httpx2.Response:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        await response.aclose()
        raise AnswerRefused("the server compresses its answers although it was asked not to")
    if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        return response
    return httpx2.Response(
        response.status_code,
        headers=response.headers,
        stream=_BoundedStream(cast("httpx2.AsyncByteStream", response.stream)),
        extensions=response.extensions,
    )


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self._inner:
            received += len(chunk)
            if received > MAX_ANSWER_BYTES:
                raise AnswerRefused(f"an answer of the server is larger than {MAX_ANSWER_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
