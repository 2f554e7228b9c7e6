"""Forwards one request to a worker and its answer back, as it comes."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession
from litestar.types import HTTPScope, Receive, Send
from multidict import CIMultiDict
from yarl import URL

from control_plane.gateway.affinity import affinity_key
from control_plane.gateway.directory import WorkerDirectory
from control_plane.gateway.event_relay import EventRelay
from control_plane.gateway.headers import ForwardedHeaders, RawHeaders, without_hop_by_hop
from control_plane.gateway.sse import MEDIA_TYPE as SSE_MEDIA_TYPE
from shared.errors import BodyTooLarge, Draining, WorkerBusy, WorkerConnectionLost
from shared.logging import get_logger
from shared.problems import PROBLEM_MEDIA_TYPE, STATUS_BY_KIND
from shared.workers import WorkerRecord

log = get_logger(__name__)

MAX_BODY_BYTES = 1024 * 1024
MAX_WHOLE_BYTES = 1024 * 1024
"""An answer that is no event stream is read up to here before its first byte goes out, so that a worker lost in the
middle of it is a clean 502; a longer one (an export) streams from there on."""


_ELSEWHERE = (Draining.code, WorkerBusy.code)
"""Answers by which a worker says that another one should serve the request."""


_MEDIA_TYPES = (PROBLEM_MEDIA_TYPE, "application/json")
"""What a refusal comes as: a problem, or an error of OpenAI's."""


class _Error(msgspec.Struct):
    code: str = ""


class _Code(_Error):
    error: _Error | None = None


class Proxy:
    """Owns nothing: client, directory and header rules are handed in."""

    def __init__(self, client: ClientSession, workers: WorkerDirectory, headers: ForwardedHeaders) -> None:
        self._client = client
        self._workers = workers
        self._headers = headers

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Raises NoLiveWorker, StoreUnavailable, BodyTooLarge and WorkerConnectionLost before anything was sent."""
        body = await read_body(scope, receive)
        if body is None:
            return
        forwarding = asyncio.create_task(self._forward(scope, body, send))
        leaving = asyncio.create_task(_client_left(receive))
        try:
            await asyncio.wait((forwarding, leaving), return_when=asyncio.FIRST_COMPLETED)
            if forwarding.done():
                forwarding.result()
        finally:
            # Cancelling closes the connection to the worker at once, which is how it learns that the client left.
            for task in (forwarding, leaving):
                task.cancel()
            await asyncio.gather(forwarding, leaving, return_exceptions=True)

    async def _forward(self, scope: HTTPScope, body: bytes, send: Send) -> None:
        request_headers = CIMultiDict(
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
            for name, value in self._headers.of_request(scope)
        )
        worker, response, buffered = await self._open(scope, body, request_headers)
        async with response:
            headers = without_hop_by_hop(response.raw_headers)
            if buffered is not None:
                await _start(response.status, headers, send)
                await send({"type": "http.response.body", "body": buffered, "more_body": False})
            elif _media_type(response) == SSE_MEDIA_TYPE:
                await _start(response.status, headers, send)
                # The layers around this look at the start of an answer only; an event goes past them.
                past_layers: Send = scope["state"].get("server_send", send)
                relay = EventRelay(self._client, self._workers, scope, request_headers, past_layers)
                await relay.run(worker, response)
            else:
                await _pass_on(response, headers, send)

    async def _open(
        self, scope: HTTPScope, body: bytes, headers: CIMultiDict[str]
    ) -> tuple[WorkerRecord, ClientResponse, bytes | None]:
        """The first worker's answer that is one: its headers have come, and its body when that had to be looked at."""
        candidates = await self._workers.candidates(affinity_key(scope["path"], body))
        refusal: tuple[WorkerRecord, ClientResponse, bytes] | None = None
        # The first once more at the end: its refusal may have been a kept-alive connection it was just closing.
        for worker in [*candidates, candidates[0]]:
            try:
                response = await self._client.request(
                    scope["method"], _url(worker, scope), headers=headers, data=body or None, allow_redirects=False
                )
                if response.status != STATUS_BY_KIND[Draining.kind] or _media_type(response) not in _MEDIA_TYPES:
                    self._workers.trust(worker.worker_id)
                    if _media_type(response) == SSE_MEDIA_TYPE:
                        self._workers.sent(worker.worker_id)
                    return worker, response, None
                problem = await response.read()
            except (ClientError, TimeoutError) as error:
                self._workers.suspect(worker.worker_id)
                log.warning("gateway_worker_failed", worker_id=worker.worker_id, error=type(error).__name__)
                continue
            if _code(problem) not in _ELSEWHERE:
                return worker, response, problem
            refusal = worker, response, problem
        if refusal is not None:
            return refusal
        raise WorkerConnectionLost


async def _pass_on(response: ClientResponse, headers: RawHeaders, send: Send) -> None:
    chunks = response.content.iter_any()
    try:
        beginning, is_whole = await _read_beginning(chunks)
    except (ClientError, OSError):
        raise WorkerConnectionLost from None
    await _start(response.status, headers, send)
    await send({"type": "http.response.body", "body": beginning, "more_body": not is_whole})
    if not is_whole:
        # A worker lost from here on raises, and the server then cuts the connection short instead of ending the body
        # properly, which is how an HTTP client learns that something is missing.
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read_beginning(chunks: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """Up to MAX_WHOLE_BYTES (or a chunk more), and whether that is all."""
    beginning = bytearray()
    async for chunk in chunks:
        beginning += chunk
        if len(beginning) >= MAX_WHOLE_BYTES:
            return bytes(beginning), False
    return bytes(beginning), True


def _code(problem: bytes) -> str:
    try:
        found = msgspec.json.decode(problem, type=_Code)
    except msgspec.MsgspecError:
        return ""
    return found.error.code if found.error else found.code


def _media_type(response: ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def _start(status: int, headers: RawHeaders, send: Send) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def read_body(scope: HTTPScope, receive: Receive) -> bytes | None:
    """The request's body, None when the client left while sending it. Raises BodyTooLarge."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit() and int(value) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"at most {MAX_BODY_BYTES} bytes are accepted")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"at most {MAX_BODY_BYTES} bytes are accepted")
        if not message.get("more_body", False):
            return bytes(body)


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _url(worker: WorkerRecord, scope: HTTPScope) -> URL:
    """The same path and query on the worker, byte for byte."""
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    query = scope["query_string"].decode("latin-1")
    return URL(worker.url.rstrip("/") + path + (f"?{query}" if query else ""), encoded=True)
