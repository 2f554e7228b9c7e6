"""A model that is asked when another one does not answer."""

import asyncio

import msgspec

from runtime_worker.models.base import AnsweredBy, DeltaSink, ModelAnswer, ModelClient, ModelRequest
from shared.errors import ModelError, ModelRequestRefused
from shared.frameworks import Provider
from shared.logging import get_logger

log = get_logger(__name__)

SHARE_TO_BEGIN = 0.5
"""How much of a call's time the first model has to begin its answer: one that hangs must leave some to the other."""


class FallbackClient:
    """Two clients of one organization behind the interface of one. Nothing of a call is kept here.

    The second is asked only as long as the first has said nothing, and never because the first refused the request
    itself: what one provider's content filter does not let pass must not be taken to the next.
    """

    def __init__(self, first: ModelClient, second: ModelClient, second_provider: Provider) -> None:
        self._first = first
        self._second = second
        self._second_provider = second_provider

    @property
    def model_name(self) -> str:
        return self._first.model_name

    async def complete(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelAnswer:
        """See the port. An answer of the second model says so in `answered_by`."""
        until = asyncio.get_running_loop().time() + request.timeout_seconds
        has_begun = False

        def deliver(text: str) -> None:
            nonlocal has_begun
            has_begun = True
            if on_delta is not None:
                on_delta(text)

        begin = request.timeout_seconds * SHARE_TO_BEGIN
        if request.begin_within_seconds is not None:
            begin = min(begin, request.begin_within_seconds)
        try:
            return await self._first.complete(msgspec.structs.replace(request, begin_within_seconds=begin), deliver)
        except ModelRequestRefused:
            raise
        except ModelError as error:
            left = until - asyncio.get_running_loop().time()
            if has_begun or left <= 0:
                raise
            log.warning(
                "model_fallback", model=self._first.model_name, fallback=self._second.model_name, code=error.code
            )
        answered_by = AnsweredBy(self._second_provider, self._second.model_name)
        told = request.on_broken_off
        second = msgspec.structs.replace(
            request,
            timeout_seconds=left,
            on_broken_off=None if told is None else lambda usage, _: told(usage, answered_by),
        )
        answer = await self._second.complete(second, on_delta)
        return msgspec.structs.replace(answer, answered_by=answered_by)
