"""What the limits said of a request, on its answer; what it had set aside and did not use is given back before that."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from runtime_worker.wiring import Worker
from shared.limits import Admission
from shared.limits.headers import rate_headers


class Admissions:
    """Around the whole application: a request may end in any of its layers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return

        async def send_with_rates(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Before the caller learns of a refusal: the next request may want the very same place.
                await _give_back(scope)
                message["headers"] = [*message["headers"], *rate_headers(scope, message["status"])]
            await send(message)

        try:
            await self._app(scope, receive, send_with_rates)
        finally:
            await _give_back(scope)


async def _give_back(scope: Scope) -> None:
    admission = scope["state"].get("admission")
    if isinstance(admission, Admission) and admission.run_id is not None and not admission.is_taken:
        worker: Worker = scope["litestar_app"].state.worker
        await worker.reservations.give_back(admission)
