"""Passing a run's events on to the end, also when the worker that sends them does not live that long.

Any worker can show any run from any of its events on, so a stream that breaks off is picked up at another worker behind
the last event that went through. The client notices nothing, or is told by the run's own last event what became of it.
"""

import asyncio
import re

from aiohttp import ClientError, ClientResponse, ClientSession
from litestar.types import HTTPScope, Send
from multidict import CIMultiDict

from control_plane.gateway.directory import WorkerDirectory
from control_plane.gateway.sse import MEDIA_TYPE, WholeEvents, has_said_all, is_end_of_run, worker_lost_event
from shared.connections import STUCK_SECONDS, abort
from shared.errors import DomainError
from shared.logging import get_logger
from shared.workers import WorkerRecord

RESUME_SECONDS = 20.0
"""How long another worker is looked for: a lost run is taken over within 5 s, and a fleet may be restarting."""
RETRY_SECONDS = 0.25
WATCH_SECONDS = 2.0
"""How often a stream's worker is looked for among the living: one that is paused or cut off breaks no connection."""

_ORGANIZATION = re.compile(r"^/api/orgs/[^/]+")
_EVENT_ID = re.compile(rb"^id: (([0-9a-f-]{36}):\d+)$", re.MULTILINE)
_GONE = frozenset({401, 403, 404, 410, 422})
"""Answers to a resume that no other worker would give differently."""

log = get_logger(__name__)


class EventRelay:
    """One client's stream of events. `scope` and `headers` are those of the client's request.

    What a client does not read, nobody holds for it here: `send` waits for it, reading from the worker waits for
    `send`, and a worker lets go of a reader that is too slow for a run. Then the rest is asked for again, at the
    client's pace.
    """

    def __init__(
        self, client: ClientSession, workers: WorkerDirectory, scope: HTTPScope, headers: CIMultiDict[str], send: Send
    ) -> None:
        self._client = client
        self._workers = workers
        self._scope = scope
        self._path = scope["path"]
        self._headers = headers
        self._send = send
        self._seen = b""
        self._sending_since: float | None = None
        self._is_client_slow = False

    async def run(self, worker: WorkerRecord, response: ClientResponse) -> None:
        """Pass on until the run's stream ends, from whichever worker has it. Always ends the client's response."""
        current: ClientResponse | None = response
        last = b""
        while current is not None:
            try:
                async with current:
                    last = await self._pass_on(worker, current)
            except (ClientError, OSError) as error:
                log.warning("gateway_stream_cut", worker_id=worker.worker_id, error=type(error).__name__)
                if not self._is_client_slow:
                    self._workers.suspect(worker.worker_id)
                if is_end_of_run(self._seen):
                    break
            else:
                if has_said_all(self._seen):
                    break
                # The worker leaves, and the run goes on without it.
                log.info("gateway_stream_left", worker_id=worker.worker_id)
            last = b""
            found = await self._resume(worker.worker_id)
            if found is None:
                last = worker_lost_event(self._path)
                break
            worker, current = found
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _pass_on(self, worker: WorkerRecord, response: ClientResponse) -> bytes:
        """What is left when the stream ended by itself. Raises ClientError or OSError when it broke off."""
        events = WholeEvents()
        loop = asyncio.get_running_loop()
        watching = asyncio.create_task(self._watch(worker.worker_id, response))
        try:
            async for chunk in response.content.iter_any():
                if whole := events.feed(chunk):
                    # Read only if it is needed; a comment has no id that would be.
                    if not whole.startswith(b":"):
                        self._seen = whole
                    self._sending_since = loop.time()
                    await self._send({"type": "http.response.body", "body": whole, "more_body": True})
                    self._sending_since = None
        finally:
            watching.cancel()
        return events.rest()

    async def _watch(self, worker_id: str, response: ClientResponse) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._sending_since is not None:
                waiting = asyncio.get_running_loop().time() - self._sending_since
                self._is_client_slow = self._is_client_slow or waiting > WATCH_SECONDS / 2
                if waiting > STUCK_SECONDS:
                    log.warning("gateway_dropped_slow_client", seconds=round(waiting))
                    # It is a client that left then, which ends all this.
                    await abort(self._scope)
                    return
            if not await self._workers.is_live(worker_id):
                response.close()
                return

    async def _resume(self, lost_id: str) -> tuple[WorkerRecord, ClientResponse] | None:
        """The rest of the run's events from another worker; None when nobody has them, or when none had passed."""
        ids = _EVENT_ID.findall(self._seen)
        organization = _ORGANIZATION.match(self._path)
        if not ids or organization is None:
            return None
        last_event_id, run_id = (part.decode() for part in ids[-1])
        headers = self._headers.copy()
        headers["Last-Event-ID"] = last_event_id
        headers.popall("Content-Type", None)
        path = f"{organization[0]}/runs/{run_id}/stream"
        give_up_at = asyncio.get_running_loop().time() + RESUME_SECONDS
        while asyncio.get_running_loop().time() < give_up_at:
            for worker in await self._others(run_id, lost_id):
                try:
                    response = await self._client.get(worker.url.rstrip("/") + path, headers=headers)
                except (ClientError, TimeoutError):
                    self._workers.suspect(worker.worker_id)
                    continue
                if response.status == 200 and response.content_type == MEDIA_TYPE:
                    log.info("gateway_stream_resumed", run_id=run_id, worker_id=worker.worker_id)
                    return worker, response
                response.release()
                if response.status in _GONE:
                    return None
            await asyncio.sleep(RETRY_SECONDS)
        return None

    async def _others(self, run_id: str, lost_id: str) -> list[WorkerRecord]:
        try:
            found = await self._workers.candidates(run_id)
        except DomainError:
            return []
        # The lost one last: it may be a process that was restarted under the same name, or a connection that broke.
        return sorted(found, key=lambda worker: worker.worker_id == lost_id)
