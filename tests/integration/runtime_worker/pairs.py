"""Two workers that share their stores, and what is asked of them about runs that change hands."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.turn.claims import CLAIMS, LostRun
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import (
    Caller,
    Event,
    RunningWorker,
    Stream,
    running_worker,
    worker_settings,
)


class Pair:
    """Two workers, and the same member at each. `go_on` lets the scripts below finish."""

    def __init__(self, one: RunningWorker, two: RunningWorker, here: Caller, there: Caller) -> None:
        self.one, self.two = one, two
        self.here, self.there = here, there

    async def lose(self, run_id: str, org_id: UUID) -> None:
        """The first worker stops vouching for anything, as one does that is paused, and its claim has run out."""

        async def nothing(*_: Any) -> Sequence[LostRun]:
            return []

        locks = self.one.worker._turning.locks
        self._renew_all = locks._renew_all
        locks._renew_all = nothing  # type: ignore[assignment,method-assign]
        self.one.worker._turning.lost_runs.take = nothing  # type: ignore[assignment,method-assign]
        for run in self.one.worker.table.all():
            run.claimed_at = float("-inf")
        locks._renewed_at = float("-inf")
        await self.one.worker.redis.zadd(CLAIMS, {f"{org_id}:{run_id}": 0})

    def wake(self) -> None:
        """The first worker goes on where it was paused."""
        self.one.worker._turning.locks._renew_all = self._renew_all  # type: ignore[method-assign]


@asynccontextmanager
async def pair_of(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
    tmp_path: Path,
    *,
    of_one: WorkerSettings | None = None,
) -> AsyncIterator[Pair]:
    """`of_one`: how the first worker reaches the stores, if not like the other."""
    others = worker_settings(
        control_plane=control_plane,
        redis_url=settings.redis_url,
        mongo_url=settings.mongo_url,
        broker_url=settings.broker_url,
        home=tmp_path,
    )
    async with (
        running_worker(of_one or settings, control_plane, builder) as one,
        running_worker(others, control_plane, builder) as two,
    ):
        here = await one.sign_in(instance.org_id)
        yield Pair(one, two, here, await two.sign_in(instance.org_id, user_id=here.user_id))


class Halting:
    """Says `before`, waits to be told to go on, and says `after`."""

    def __init__(self, before: Sequence[str], after: Sequence[str]) -> None:
        self._before, self._after = before, after
        self.go_on = asyncio.Event()
        self.begun = 0

    async def __call__(self, request: RunRequest, sink: EventSink) -> None:
        self.begun += 1
        sink.agent_start("assistant", "conversational_node")
        await say(sink, *self._before)
        await self.go_on.wait()
        await say(sink, *self._after)
        sink.agent_end("assistant", "conversational_node")


async def opening_of(stream: Stream) -> Event:
    opening = await stream.next()
    assert opening is not None
    return opening


async def until(stream: Stream, text: str) -> list[Event]:
    """Read until this fragment has come."""
    events: list[Event] = []
    while not events or events[-1].data.get("content") != text:
        event = await stream.next()
        assert event is not None
        events.append(event)
    return events


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.data["content"] for event in events if event.name == "message")


async def resumed(caller: Caller, run_id: str, last_event_id: str | None = None) -> list[Event]:
    headers = caller.headers | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    async with caller.http.get(f"{caller.url}/runs/{run_id}/stream", headers=headers) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        return [event async for event in Stream(response)]


async def messages(caller: Caller, conversation_id: str) -> list[tuple[str, str]]:
    _, page = await caller.call("GET", f"/conversations/{conversation_id}/messages")
    return [(message["role"], message["content"]) for message in page["items"]]
