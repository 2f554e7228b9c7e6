"""The model client for every provider that speaks OpenAI's chat completions, streaming only."""

import asyncio
import random
from contextlib import suppress

from aiohttp import ClientError, ClientResponse, ClientTimeout

from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest
from runtime_worker.models.connections import CONNECT_SECONDS, ModelConnections, RefusedAddress
from runtime_worker.models.openai_body import MaxTokensParameter, encode_body, estimate_input_tokens
from runtime_worker.models.openai_chunks import Accumulator, decode_chunk
from runtime_worker.models.sse import EventStream
from runtime_worker.models.upstream_errors import error_in_stream, error_of_status, excerpt, is_retried, retry_after_of
from shared.errors import ModelError, ModelProtocolError, ModelTimedOut, ModelUnavailable
from shared.frameworks import DEFAULT_BASE_URLS, Provider
from shared.logging import get_logger
from shared.model_options import ModelOptions

log = get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 4.0
MAX_RETRY_AFTER_SECONDS = 15.0
"""A provider that asks for more is not waited for: somebody is looking at an empty chat meanwhile."""
TAIL_SECONDS = 2.0
"""How long usage and `[DONE]` may follow the finish reason: the answer is there, nobody should wait for its count."""
MAX_ERROR_BODY_BYTES = 16 * 1024


class _Retry(Exception):
    """An attempt failed before its first byte, in a way that another one may not."""

    def __init__(self, error: ModelError, wait_seconds: float | None = None) -> None:
        self.error = error
        self.wait_seconds = wait_seconds


class OpenAIWireClient:
    """One credential, one model. Holds the opened key; no answer, error or log line repeats it."""

    def __init__(
        self,
        connections: ModelConnections,
        provider: Provider,
        *,
        base_url: str,
        api_key: str,
        model_name: str,
        options: ModelOptions | None = None,
    ) -> None:
        self._connections = connections
        self._url = f"{base_url}/chat/completions"
        self._api_key = api_key
        self._model_name = model_name
        self._options = options or ModelOptions()
        self._headers = {
            **self._options.http_headers(),
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
        }
        self._max_tokens_parameter = self._options.max_tokens_parameter or _max_tokens_parameter(provider, base_url)

    @property
    def model_name(self) -> str:
        return self._model_name

    async def complete(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelAnswer:
        """Stream one completion; see the port. Retries only before the first byte and within the deadline."""
        body = encode_body(request, self._model_name, self._options, self._max_tokens_parameter)
        answer = Accumulator(on_delta)
        try:
            async with asyncio.timeout(request.timeout_seconds) as deadline:
                await self._with_retries(body, answer, deadline)
        except TimeoutError:
            # The tail after the finish reason is cut short on purpose: then the answer is whole.
            if answer.finish_reason is None:
                raise ModelTimedOut from None
        return answer.answer(0 if answer.usage else estimate_input_tokens(request))

    async def _with_retries(self, body: bytes, answer: Accumulator, deadline: asyncio.Timeout) -> None:
        for attempt in range(self._options.max_retries + 1):
            try:
                return await self._attempt(body, answer, deadline)
            except _Retry as failure:
                wait = failure.wait_seconds if failure.wait_seconds is not None else _backoff_seconds(attempt)
                if attempt == self._options.max_retries or not _fits(wait, deadline):
                    raise failure.error from None
                log.info("model_retry", model=self._model_name, code=failure.error.code, wait_seconds=round(wait, 2))
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, body: bytes, answer: Accumulator, deadline: asyncio.Timeout) -> None:
        try:
            response = await self._connections.session.post(
                self._url,
                data=body,
                headers=self._headers,
                allow_redirects=False,
                timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            )
        except (ClientError, OSError) as error:
            if _is_refused_address(error):
                raise ModelUnavailable("the model's address may not be called") from None
            raise _Retry(ModelUnavailable("no connection to the model provider")) from None
        is_whole = False
        try:
            if response.status != 200:
                await self._refuse(response)
            # In a task of its own: otherwise every read wakes the twenty coroutines that wait for this call one inside
            # the other, from the graph's down to here, which costs more than decoding what was read.
            await asyncio.create_task(self._read(response, answer, deadline))
            is_whole = True
        finally:
            # A connection is used again only when its answer was read to the end; any other way out closes the
            # socket at once, which is what stops the provider from generating (and billing) further.
            if is_whole:
                response.release()
            else:
                response.close()

    async def _refuse(self, response: ClientResponse) -> None:
        """Raise for a status that is not 200."""
        retry_after = retry_after_of(response.headers.get("Retry-After"))
        error = error_of_status(response.status, retry_after)
        body = b""
        with suppress(ClientError, OSError, TimeoutError):
            async with asyncio.timeout(TAIL_SECONDS):
                body = await response.content.read(MAX_ERROR_BODY_BYTES)
        message = excerpt(body, self._api_key)
        log.warning("model_refused", model=self._model_name, status=response.status, code=error.code, upstream=message)
        if is_retried(response.status):
            raise _Retry(error, retry_after)
        raise error

    async def _read(self, response: ClientResponse, answer: Accumulator, deadline: asyncio.Timeout) -> None:
        stream = EventStream()
        readany = response.content.readany
        is_done = False
        try:
            while not is_done and (chunk := await readany()):
                is_done = _take(stream.feed(chunk), answer, deadline)
        except (ClientError, OSError):
            raise ModelProtocolError("the connection to the model broke in the middle of its answer") from None
        if is_done:
            await _drain(response)
            return
        _take(stream.finish(), answer, deadline)
        if answer.finish_reason is None:
            raise ModelProtocolError("the model's answer stopped in the middle")


def _take(events: list[bytes], answer: Accumulator, deadline: asyncio.Timeout) -> bool:
    """Add events to the answer; True when the stream says that it is done."""
    for data in events:
        if data == b"[DONE]":
            answer.finish_reason = answer.finish_reason or "stop"
            return True
        chunk = decode_chunk(data)
        if chunk.error is not None:
            raise error_in_stream(chunk.error)
        was_finished = answer.finish_reason is not None
        answer.add(chunk)
        if answer.finish_reason is not None and not was_finished:
            _shorten(deadline, TAIL_SECONDS)
    return False


async def _drain(response: ClientResponse) -> None:
    """Read the end of the body, so that the connection can be used again; it mostly came with the last event."""
    if not response.content.at_eof():
        with suppress(ClientError, OSError, TimeoutError):
            async with asyncio.timeout(0.05):
                await response.content.readany()


def _is_refused_address(error: BaseException) -> bool:
    return isinstance(error, RefusedAddress) or isinstance(getattr(error, "os_error", None), RefusedAddress)


def _backoff_seconds(attempt: int) -> float:
    """0.25, 0.5, 1 … at most 4 seconds, each ± 25 % so that many clients do not come back at the same moment."""
    seconds = min(FIRST_BACKOFF_SECONDS * 2.0**attempt, MAX_BACKOFF_SECONDS)
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - spreading load, no secret depends on it


def _fits(wait_seconds: float, deadline: asyncio.Timeout) -> bool:
    when = deadline.when()
    left = when - asyncio.get_running_loop().time() if when is not None else float("inf")
    return wait_seconds <= MAX_RETRY_AFTER_SECONDS and wait_seconds < left


def _shorten(deadline: asyncio.Timeout, seconds: float) -> None:
    when = asyncio.get_running_loop().time() + seconds
    current = deadline.when()
    if current is None or when < current:
        deadline.reschedule(when)


def _max_tokens_parameter(provider: Provider, base_url: str) -> MaxTokensParameter:
    """OpenAI's reasoning models refuse `max_tokens`; other servers mostly know nothing else."""
    is_openai = provider is Provider.OPENAI and base_url == DEFAULT_BASE_URLS[Provider.OPENAI]
    return "max_completion_tokens" if is_openai else "max_tokens"
