"""The one model client: posts a request in the words of its wire, reads the stream, retries, keeps deadlines."""

import asyncio
from contextlib import suppress

from aiohttp import ClientError, ClientResponse

from runtime_worker.models.accumulator import Accumulator
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest
from runtime_worker.models.connections import ModelConnections, RefusedAddress
from runtime_worker.models.retries import Retry, fits, wait_seconds
from runtime_worker.models.sse import EventStream
from runtime_worker.models.structured import from_answer_tool, with_answer_tool
from runtime_worker.models.upstream_errors import error_of_answer, is_retried, said_kinds
from runtime_worker.models.wires import WireFormat
from shared.errors import ModelProtocolError, ModelTimedOut, ModelUnavailable
from shared.logging import get_logger

log = get_logger(__name__)

TAIL_SECONDS = 2.0
"""How long usage and the end may follow the finish reason: the answer is there, nobody should wait for its count."""
MAX_ERROR_BODY_BYTES = 16 * 1024


class WireClient:
    """One credential, one model. The wire holds the opened key; no answer, error or log line repeats it."""

    def __init__(self, connections: ModelConnections, wire: WireFormat, *, model_name: str, max_retries: int) -> None:
        self._connections = connections
        self._wire = wire
        self._model_name = model_name
        self._max_retries = max_retries

    @property
    def model_name(self) -> str:
        return self._model_name

    async def complete(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelAnswer:
        """Stream one completion; see the port. Retries only before the first byte and within the deadline."""
        is_by_tool = request.response_schema is not None and self._wire.answers_by_tool(request)
        asked = with_answer_tool(request) if is_by_tool else request
        answer = self._wire.accumulator(asked, None if is_by_tool else on_delta)
        try:
            await self._stream(self._wire.body(asked), answer, request)
            whole = answer.answer(asked)
            if is_by_tool:
                whole = from_answer_tool(whole)
        except BaseException:
            # The provider counts what it read and wrote until then, whoever hung up.
            if answer.is_taken and request.on_broken_off is not None:
                request.on_broken_off(answer.usage_until_now(asked), None)
            raise
        if is_by_tool and on_delta is not None and whole.content:
            on_delta(whole.content)
        return whole

    async def _stream(self, body: bytes, answer: Accumulator, request: ModelRequest) -> None:
        end = asyncio.get_running_loop().time() + request.timeout_seconds
        begin = request.timeout_seconds
        if request.begin_within_seconds is not None:
            begin = min(begin, request.begin_within_seconds)
        try:
            async with asyncio.timeout(begin) as deadline:
                await self._with_retries(body, answer, deadline, end)
        except TimeoutError:
            # The tail after the finish reason is cut short on purpose: then the answer is whole.
            if answer.finish_reason is None:
                raise ModelTimedOut from None

    async def _with_retries(self, body: bytes, answer: Accumulator, deadline: asyncio.Timeout, end: float) -> None:
        for attempt in range(self._max_retries + 1):
            try:
                return await self._attempt(body, answer, deadline, end)
            except Retry as failure:
                wait = wait_seconds(failure, attempt)
                if attempt == self._max_retries or not fits(wait, deadline):
                    raise failure.error from None
                log.info("model_retry", model=self._model_name, code=failure.error.code, wait_seconds=round(wait, 2))
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, body: bytes, answer: Accumulator, deadline: asyncio.Timeout, end: float) -> None:
        try:
            response = await self._connections.session.post(
                self._wire.url,
                data=body,
                headers=self._wire.headers,
                allow_redirects=False,
            )
        except (ClientError, OSError) as error:
            if _is_refused_address(error):
                raise ModelUnavailable("the model's address may not be called") from None
            raise Retry(ModelUnavailable("no connection to the model provider")) from None
        is_whole = False
        try:
            if response.status != 200:
                await self._refuse(response)
            answer.is_taken = True
            # In a task of its own: otherwise every read wakes the twenty coroutines that wait for this call one inside
            # the other, from the graph's down to here, which costs more than decoding what was read.
            await asyncio.create_task(self._read(response, answer, deadline, end))
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
        body = b""
        with suppress(ClientError, OSError, TimeoutError):
            async with asyncio.timeout(TAIL_SECONDS):
                body = await response.content.read(MAX_ERROR_BODY_BYTES)
        error = error_of_answer(response.status, response.headers.get("Retry-After"), body)
        kinds = said_kinds(body)
        log.warning("model_refused", model=self._model_name, status=response.status, code=error.code, upstream=kinds)
        if is_retried(response.status):
            raise Retry(error, error.retry_after_seconds)
        raise error

    async def _read(self, response: ClientResponse, answer: Accumulator, deadline: asyncio.Timeout, end: float) -> None:
        stream = EventStream()
        readany = response.content.readany
        is_done = False
        try:
            chunk = await readany()
            deadline.reschedule(end)
            while chunk:
                is_done = _take(stream.feed(chunk), answer, deadline)
                if is_done:
                    break
                chunk = await readany()
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
        was_finished = answer.finish_reason is not None
        if answer.take(data):
            return True
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


def _shorten(deadline: asyncio.Timeout, seconds: float) -> None:
    when = asyncio.get_running_loop().time() + seconds
    current = deadline.when()
    if current is None or when < current:
        deadline.reschedule(when)
