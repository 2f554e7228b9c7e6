"""The gateway as one object of the process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import ClientSession
from litestar.types import HTTPScope, Receive, Scope, Send

from control_plane.gateway.connector import new_client
from control_plane.gateway.directory import WorkerDirectory
from control_plane.gateway.headers import ForwardedHeaders
from control_plane.gateway.proxy import Proxy


class Gateway:
    """The proxy and the life of its HTTP client, which other questions to workers may use too."""

    def __init__(self, workers: WorkerDirectory, trusted_proxies: tuple[str, ...]) -> None:
        self.workers = workers
        self._headers = ForwardedHeaders(trusted_proxies)
        self._client: ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open for as long as the block lasts."""
        async with new_client() as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None
                await self.workers.close()

    @property
    def client(self) -> ClientSession:
        if self._client is None:
            raise RuntimeError("the gateway is used outside of running()")
        return self._client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Proxy(self.client, self.workers, self._headers)(cast("HTTPScope", scope), receive, send)
