"""The one model client: posts a request in the words of its wire, reads the stream, retries, keeps deadlines."""

import asyncio

from aiohttp import ClientError

from runtime_worker.models.accumulator import Accumulator
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelRequest
from runtime_worker.models.connections import ModelConnections, RefusedAddress
from runtime_worker.models.exchange import Address, Exchange, NoAnswer
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


class WireClient:
    """One credential, one model. The wire holds the opened key; no answer, error or log line repeats it."""

    def __init__(self, connections: ModelConnections, wire: WireFormat, *, model_name: str, max_retries: int) -> None:
        self._connections = connections
        self._wire = wire
        self._model_name = model_name
        self._max_retries = max_retries
        self._address: Address | None = None

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
        address = self._address = self._address or Address(self._wire.url, self._wire.headers)
        try:
            exchange = Exchange(await self._connections.lend(address.request), _AnswerReader(answer, deadline, end))
            await exchange.ask(address.message(body))
        except (ClientError, OSError, NoAnswer) as error:
            if _is_refused_address(error):
                raise ModelUnavailable("the model's address may not be called") from None
            raise Retry(ModelUnavailable("no connection to the model provider")) from None
        if exchange.status != 200:
            self._refuse(exchange)

    def _refuse(self, exchange: Exchange) -> None:
        """Raise for a status that is not 200."""
        retry_after = exchange.headers.get(b"retry-after")
        error = error_of_answer(exchange.status, retry_after.decode("latin-1") if retry_after else None, exchange.body)
        kinds = said_kinds(exchange.body)
        log.warning("model_refused", model=self._model_name, status=exchange.status, code=error.code, upstream=kinds)
        if is_retried(exchange.status):
            raise Retry(error, error.retry_after_seconds)
        raise error


class _AnswerReader:
    """Adds what the model says to an answer, and moves the deadline with it."""

    def __init__(self, answer: Accumulator, deadline: asyncio.Timeout, end: float) -> None:
        """`deadline` is that of the answer's beginning, `end` when all of it has to be there, on the loop's clock."""
        self._events = EventStream()
        self._answer = answer
        self._deadline = deadline
        self._end: float | None = end

    def begin(self) -> None:
        self._answer.is_taken = True

    def read(self, piece: bytes) -> bool:
        if self._end is not None:
            self._deadline.reschedule(self._end)
            self._end = None
        return self._take(self._events.feed(piece))

    def end(self) -> None:
        self._take(self._events.finish())
        if self._answer.finish_reason is None:
            raise ModelProtocolError("the model's answer stopped in the middle")

    def _take(self, events: list[bytes]) -> bool:
        answer = self._answer
        for data in events:
            was_finished = answer.finish_reason is not None
            if answer.take(data):
                return True
            if answer.finish_reason is not None and not was_finished:
                _shorten(self._deadline, TAIL_SECONDS)
        return False


def _is_refused_address(error: BaseException) -> bool:
    return isinstance(error, RefusedAddress) or isinstance(getattr(error, "os_error", None), RefusedAddress)


def _shorten(deadline: asyncio.Timeout, seconds: float) -> None:
    when = asyncio.get_running_loop().time() + seconds
    current = deadline.when()
    if current is None or when < current:
        deadline.reschedule(when)
