"""One run as this process knows it, and the table of all that are going on."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from runtime_worker.conversations.base import Conversation, RunError, RunRecord, TokenUsage
from runtime_worker.engines.base import ModelCall, RunStatus
from runtime_worker.stream.run_stream import RunStream
from shared.chat_settings import OnDisconnect
from shared.errors import DomainError, Draining, WorkerBusy
from shared.frameworks import Mode
from shared.ids import new_id
from shared.pricing import ModelPrice
from shared.settings import ServingSettings


class Run:
    """A running turn. It belongs to its table, not to the request that started it.

    `epoch` counts the workers that have driven it. `answer_id` is what its answer is stored under, whoever stores it.
    `claimed_at` is when this worker began to vouch for it, on the loop's clock. `last_agent` answered the turn before,
    where the mode goes on with whoever that was. `prices` are those that hold for the run: the ones it began with.
    `stop_error` is what it ends with when it was stopped, if that is not a cancel.
    """

    def __init__(
        self,
        *,
        run_id: UUID,
        org_id: UUID,
        user_id: UUID,
        conversation_id: UUID,
        instance_id: UUID,
        config_hash: str,
        started_at: datetime,
        stream: RunStream,
        on_disconnect: OnDisconnect = "continue",
        mode: Mode = Mode.SUPERVISOR,
        last_agent: str | None = None,
        resource_id: str | None = None,
        central_id: UUID | None = None,
        answer_id: UUID | None = None,
        epoch: int = 1,
        prices: Sequence[ModelPrice] = (),
        api_key_id: UUID | None = None,
    ) -> None:
        self.run_id = run_id
        self.org_id = org_id
        self.user_id = user_id
        self.conversation_id = conversation_id
        self.instance_id = instance_id
        self.config_hash = config_hash
        # A turn that begins sets it aside anew, behind all that is written before the answer.
        self.answer_id = answer_id or new_id()
        self.message_id: UUID | None = None
        self.resource_id = resource_id
        self.central_id = central_id
        self.epoch = epoch
        self.prices = prices
        self.api_key_id = api_key_id
        self.claimed_at = asyncio.get_running_loop().time()
        self.is_lost = False
        self.is_handed_over = False
        self.stop_error: DomainError | None = None
        self.started_at = started_at
        self.stream = stream
        self.on_disconnect = on_disconnect
        self.mode = mode
        self.last_agent = last_agent
        self.status: RunStatus = "running"
        self.error: DomainError | None = None
        self.usage: TokenUsage | None = None
        self.own_calls: list[ModelCall] = []
        """Model calls of the turn itself, beside those of the engine."""
        self.engine_calls: list[ModelCall] = []
        self.charged_key_id: UUID | None = None
        """The budget of the API key that it uses."""
        self.agent_hops = 0
        self.current_agent: str | None = None
        self.ended_at: datetime | None = None
        self.opens: Conversation | None = None
        """The conversation that begins with it, as long as that has no row of its own."""
        self.is_anchor_kept = False
        """Whether what it loaded of its resource is in that row."""
        self.stop_requested: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_recorded = False
        self._record_is_settled = asyncio.Event()
        self._done = asyncio.Event()

    def cancel(self) -> None:
        """Ask it to end as cancelled. Safe to repeat, and too late when it has ended."""
        if not self.stop_requested.done():
            self.stop_requested.set_result(None)

    def recorded(self) -> None:
        """Its start is stored: from here on it exists, and its end will be stored too."""
        self._is_recorded = True
        self._record_is_settled.set()
        self.stream.record()

    def lose(self) -> None:
        """Another worker has taken it over: it stops, and nothing of it is stored, told or shown any more."""
        self.is_lost = True
        self.stream.cut()
        self.cancel()

    def hand_over(self) -> None:
        """Stop, so that another worker can go on with it. One that is just ending does that instead."""
        if not self.stop_requested.done():
            self.is_handed_over = True
            self.cancel()

    def fail(self, error: DomainError) -> None:
        """Have it end as failed. One that is just ending does that instead."""
        if not self.stop_requested.done():
            self.stop_error = error
            self.cancel()

    def refuse(self) -> None:
        """Its start could not be stored: it stops, and there never was a run."""
        self._record_is_settled.set()
        self.cancel()

    async def is_recorded(self) -> bool:
        """Whether its start was stored, once that is known."""
        await self._record_is_settled.wait()
        return self._is_recorded

    async def wait(self) -> None:
        """Until it has ended and everything about it is told."""
        await self._done.wait()

    def finished(self) -> None:
        self._done.set()

    @property
    def calls(self) -> list[ModelCall]:
        """Every model call of the turn that is over."""
        return [*self.own_calls, *self.engine_calls]

    def record(self, *, last_seq: int | None = None) -> RunRecord:
        error = self.error
        return RunRecord(
            run_id=self.run_id,
            conversation_id=self.conversation_id,
            instance_id=self.instance_id,
            user_id=self.user_id,
            config_hash=self.config_hash,
            status=self.status,
            started_at=self.started_at,
            ended_at=self.ended_at,
            error=RunError(error.code, error.detail, error.retryable) if error else None,
            usage=self.usage,
            last_seq=self.stream.last_seq if last_seq is None else last_seq,
            message_id=self.message_id,
            answer_id=self.answer_id,
            resource_id=self.resource_id,
            agent_hops=self.agent_hops,
            current_agent=self.current_agent,
            epoch=self.epoch,
            api_key_id=self.api_key_id,
        )


class RunTable:
    """Every run of this process and the task that drives it."""

    def __init__(self, max_runs: int = ServingSettings().max_concurrent_runs) -> None:
        self.capacity = max_runs
        self._runs: dict[UUID, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._starting = 0
        self._none_starting = asyncio.Event()
        self._none_starting.set()

    def __len__(self) -> int:
        """How many runs are going on, those included whose start is being stored."""
        return len(self._tasks)

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    @contextmanager
    def admission(self) -> Iterator[None]:
        """The time between accepting a turn and its run; draining waits for it. Raises Draining or WorkerBusy."""
        if self._is_draining:
            raise Draining
        if len(self._runs) + self._starting >= self.capacity:
            raise WorkerBusy
        self._starting += 1
        self._none_starting.clear()
        try:
            yield
        finally:
            self._starting -= 1
            if self._starting == 0:
                self._none_starting.set()

    def start(self, run: Run, work: Coroutine[None, None, None]) -> None:
        """Take the coroutine that drives a run to its end. The run is listed when it is stored (`record`)."""
        task = asyncio.create_task(work, name=f"run-{run.run_id}")
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._runs.pop(run.run_id, None)
            run.finished()

        task.add_done_callback(ended)

    def record(self, run: Run) -> None:
        """The start of a run in the table's care is stored: whoever asks may learn of it."""
        self._runs[run.run_id] = run
        run.recorded()

    def find(self, run_id: UUID) -> Run | None:
        return self._runs.get(run_id)

    def lose(self, run_id: UUID) -> None:
        """Another worker turns out to have taken it over."""
        if run := self.find(run_id):
            run.lose()

    def all(self) -> list[Run]:
        return list(self._runs.values())

    def refuse(self) -> None:
        """Take no new runs from now on."""
        self._is_draining = True

    async def drain(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """Take no new runs and let the present ones finish, for at most so long or until there is hurry. Those that are
        still there afterwards are all on record."""
        self.refuse()
        hurrying = asyncio.create_task(hurry.wait())
        finishing = asyncio.create_task(self._until_idle())
        await asyncio.wait({hurrying, finishing}, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in (hurrying, finishing):
            task.cancel()
        await self._none_starting.wait()

    async def _until_idle(self) -> None:
        await self._none_starting.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)
