"""Driving one run to its end: the engine's work, the deadline, cancelling, saving, and the last event."""

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

import msgspec

from runtime_worker.conversations.base import Message, TokenUsage, TurnEnd
from runtime_worker.engines.base import RunRequest, RunResult
from runtime_worker.metrics import RunMetrics
from runtime_worker.models.base import ModelMessage, Usage
from runtime_worker.pool.entry import Lease
from runtime_worker.turn.accounting import calls_of, entry_of_handed_over, usage_entry
from runtime_worker.turn.backlog import SaveBacklog
from runtime_worker.turn.compaction import Compactor, Overflow
from runtime_worker.turn.endings import error_event, last_event
from runtime_worker.turn.history import CHARS_PER_TOKEN
from runtime_worker.turn.keeping import kept_agent, kept_anchor
from runtime_worker.turn.reservations import Reservations
from runtime_worker.turn.run import Run
from runtime_worker.turn.run_locks import RunLocks
from shared.clock import Clock
from shared.errors import DomainError, RunFailed, RunTimedOut, WorkerLost
from shared.limits import Admission
from shared.logging import get_logger
from shared.pricing import cost_of_calls, price_list

SENDING_ROUNDS = 2
"""So many rounds of the loop it takes until the writes of a turn that begins are on their way, where lines are open."""
STOP_SECONDS = 0.15
"""How long an engine may take to stop when told to; a cancel is answered within 250 ms, so it cannot be much."""

log = get_logger(__name__)


class Execution:
    """Runs turns. What `launch` returns is the whole life of a run's task; it raises nothing."""

    def __init__(
        self,
        backlog: SaveBacklog,
        locks: RunLocks,
        reservations: Reservations,
        compactor: Compactor,
        metrics: RunMetrics,
        clock: Clock,
    ) -> None:
        self._backlog = backlog
        self._reservations = reservations
        self._locks = locks
        self._compactor = compactor
        self._metrics = metrics
        self._clock = clock

    async def give_back(self, admission: Admission) -> None:
        """There is no run: what was set aside for it is free again, unless the run came to hold it."""
        if not admission.is_taken:
            await self._reservations.give_back(admission)

    def hold(self, run: Run, admission: Admission | None) -> None:
        """From here on what the run has set aside is this worker's to settle; None: another worker had begun it."""
        if admission is not None:
            admission.is_taken = True
            run.charged_key_id = admission.budget_id
        if admission is None or admission.run_id is not None:
            self._reservations.hold(run.run_id, run.org_id)

    def launch(
        self, run: Run, lease: Lease, request: RunRequest, overflow: Overflow | None = None
    ) -> Coroutine[None, None, None]:
        """Let the engine begin, before its turn is stored, and return what sees the run to its end.

        A conversation that has outgrown its window is made to fit first.
        """
        # A task of its own, just behind the writes that the caller is about to wait for: the store works while the
        # engine gets going, and the run can be shown before its model says anything.
        work = asyncio.create_task(self._begin(run, lease, request, overflow), name=f"engine-{run.run_id}")
        # The engine may go on for a moment after it was told to stop; the orchestrator is its own until it is done.
        work.add_done_callback(lambda _: lease.release())
        return self._drive(run, work, request.deadline, self._clock.monotonic())

    async def _drive(self, run: Run, work: "asyncio.Task[RunResult]", deadline: float, started: float) -> None:
        result = await self._outcome(run, work, deadline)
        if not await run.is_recorded():
            # Its engine may have asked a model already.
            await asyncio.gather(
                self._locks.release(run.org_id, run.conversation_id, run.run_id, usage_entry=self._unrecorded(run)),
                self._settle(run, _usage(run, result, run.stream.text)),
            )
            return
        was_handed_over, run.is_handed_over = run.is_handed_over, False
        if not await self._locks.is_ours(run):
            log.error("run_abandoned", run_id=str(run.run_id), org_id=str(run.org_id))
            run.lose()
            self._reservations.let_go(run.run_id)
            self._count(run, "lost")
            return
        if was_handed_over and result is None and run.error is None:
            # Its story stops here as if the process had been killed: whoever takes it tells how it ends.
            run.is_handed_over = True
            run.stream.hand_over("error", error_event(WorkerLost()))
            self._reservations.let_go(run.run_id)
            self._count(run, "handed_over")
            if run.calls:
                await self._locks.tell(entry_of_handed_over(run))
            return
        await self._finish(run, result, duration_ms=round((self._clock.monotonic() - started) * 1000))

    async def _begin(self, run: Run, lease: Lease, request: RunRequest, overflow: Overflow | None) -> RunResult:
        for _ in range(SENDING_ROUNDS):
            await asyncio.sleep(0)
        if overflow is not None:
            request = await self._compactor.fit(run, lease, request, overflow)
        return await lease.orchestrator.run(request, run.stream)

    async def _outcome(self, run: Run, work: "asyncio.Task[RunResult]", deadline: float) -> RunResult | None:
        """Wait for the engine, the deadline or a cancel, whichever is first; the result if there is one."""
        seconds = deadline - asyncio.get_running_loop().time()
        either: set[asyncio.Future[Any]] = {work, run.stop_requested}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            if not run.stop_requested.done():
                run.status, run.error = "failed", RunTimedOut()
            elif run.stop_error is not None:
                run.status, run.error = "failed", run.stop_error
            elif not run.is_handed_over:
                run.status = "cancelled"
            work.cancel()
            await asyncio.wait({work}, timeout=STOP_SECONDS)
            if not work.done():
                log.error("engine_does_not_stop", run_id=str(run.run_id), instance_id=str(run.instance_id))
                work.add_done_callback(_swallow)
                return None
            _swallow(work)
            return None
        try:
            result = work.result()
        except DomainError as error:
            run.error = error
        except asyncio.CancelledError:
            run.error = RunFailed("the run was interrupted")
        except (
            Exception
        ):  # An engine is a framework with plugins in it: anything may come, and the caller sees none of it.
            log.exception("run_crashed", run_id=str(run.run_id), instance_id=str(run.instance_id))
            run.error = RunFailed()
        else:
            run.status = "completed"
            return result
        run.status = "failed"
        return None

    async def _finish(self, run: Run, result: RunResult | None, *, duration_ms: int) -> None:
        stream = run.stream
        if result is None:
            stream.close_open("cancelled" if run.status == "cancelled" else "the run failed")
        else:
            run.agent_hops, run.current_agent = result.agent_hops, result.current_agent
        run.ended_at = self._clock.now()
        text = stream.text
        run.usage = _usage(run, result, text)
        answer = self._answer(run, text, result.tool_messages if result else ())
        record = run.record(last_seq=stream.last_seq + 1)
        entry = usage_entry(run.org_id, record, calls_of(run))
        record = msgspec.structs.replace(record, usage_entry=entry)
        end = TurnEnd(
            run=record,
            answer=answer,
            anchor=kept_anchor(run, result) if result else None,
            last_agent=kept_agent(run, result) if result else None,
            opens=run.opens,
        )
        saved = await self._backlog.save(run.org_id, end)
        # Before the last event: the client may send its next message the moment it reads that.
        await asyncio.gather(
            self._locks.release(run.org_id, run.conversation_id, run.run_id, run.epoch, usage_entry=entry),
            self._settle(run, run.usage),
        )
        stream.end(*last_event(record, saved=saved, error_code=result.error_code if result else None))
        self._count(run, run.status)
        log.info(
            "run_ended",
            run_id=str(run.run_id),
            org_id=str(run.org_id),
            instance_id=str(run.instance_id),
            status=run.status,
            code=run.error.code if run.error else None,
            duration_ms=duration_ms,
            saved=saved,
        )

    def _unrecorded(self, run: Run) -> bytes | None:
        """There never was a run, but its engine may have asked a model already."""
        if not run.calls:
            return None
        run.status, run.ended_at = "failed", self._clock.now()
        return usage_entry(run.org_id, run.record(), calls_of(run))

    async def _settle(self, run: Run, usage: TokenUsage) -> None:
        await self._reservations.settle(run.org_id, run.run_id, usage, run.charged_key_id)

    def _count(self, run: Run, outcome: str) -> None:
        code = run.error.code if run.error else None
        stream = run.stream
        self._metrics.ended(outcome, code, run.usage, tool_calls=stream.tool_calls, errors=stream.failed_tool_calls)

    def _answer(self, run: Run, text: str, tool_messages: tuple[ModelMessage, ...]) -> Message | None:
        """What of the run belongs into the conversation: everything the user saw, also when it broke off."""
        is_complete = run.status == "completed"
        if not text and not is_complete:
            return None
        run.message_id = run.answer_id
        return Message(
            message_id=run.message_id,
            conversation_id=run.conversation_id,
            run_id=run.run_id,
            role="assistant",
            content=text,
            created_at=run.ended_at or self._clock.now(),
            tool_messages=tool_messages,
            usage=run.usage,
            status="complete" if is_complete else "partial",
        )


def _usage(run: Run, result: RunResult | None, text: str) -> TokenUsage:
    """What the turn used, also one that ended badly: what its models answered until then was paid for."""
    if result is not None:
        of_engine = result.usage
    elif run.engine_calls:
        of_engine = sum((call.usage for call in run.engine_calls), start=Usage())
    else:
        of_engine = estimate(text)
    usage = sum((call.usage for call in run.own_calls), start=of_engine)
    calls = run.calls
    is_known = calls or not (usage.input_tokens or usage.output_tokens)
    return token_usage(usage, cost_of_calls(calls, price_list(run.prices)) if is_known else None)


def token_usage(usage: Usage, cost: Decimal | None = None) -> TokenUsage:
    return TokenUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        cost=None if cost is None else float(cost),
        is_estimated=usage.is_estimated,
    )


def estimate(text: str) -> Usage:
    """For a run that was stopped before its provider counted: what is certain is only what came out."""
    return Usage(output_tokens=-(-len(text) // CHARS_PER_TOKEN), is_estimated=True)


def _swallow(work: "asyncio.Task[RunResult]") -> None:
    """Take note of how a stopped engine ended, so that it is not reported as an exception nobody looked at."""
    if not work.cancelled():
        work.exception()
