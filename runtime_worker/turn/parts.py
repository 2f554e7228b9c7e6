"""What takes runs from their beginning to their end in one worker, put together: the parts know each other by this."""

from collections.abc import Callable, Coroutine
from typing import Any

from redis.asyncio import Redis

from runtime_worker.conversations.mongo import MongoConversationStore
from runtime_worker.conversations.spooled import MongoEventSpool
from runtime_worker.metrics import RunMetrics
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.stream.journal import EventJournal
from runtime_worker.stream.spool import Spooler
from runtime_worker.turn.backlog import SaveBacklog
from runtime_worker.turn.cancellation import Cancellations
from runtime_worker.turn.compaction import Compactor
from runtime_worker.turn.execution import Execution
from runtime_worker.turn.handover import Handover
from runtime_worker.turn.lost_runs import LostRuns
from runtime_worker.turn.repeats import RepeatedRequests
from runtime_worker.turn.replay import RunReplays
from runtime_worker.turn.reservations import Reservations
from runtime_worker.turn.run import RunTable
from runtime_worker.turn.run_locks import RunLocks
from runtime_worker.turn.run_lookup import RunLookup
from runtime_worker.turn.service import TurnService
from runtime_worker.turn.takeover import Takeover
from shared.clock import Clock
from shared.limits.limiter import Limiter
from shared.metrics import RequestMetrics
from shared.settings import WorkerSettings


class TurnParts:
    """`has_others` tells whether another worker is there that stays."""

    def __init__(
        self,
        settings: WorkerSettings,
        worker_id: str,
        redis: "Redis",
        store: MongoConversationStore,
        table: RunTable,
        pool: OrchestratorPool,
        limiter: Limiter,
        reservations: Reservations,
        has_others: Callable[[], bool],
        metrics: RequestMetrics,
        clock: Clock,
    ) -> None:
        serving = settings.serving
        self.backlog = SaveBacklog(store)
        self.locks = RunLocks(redis, worker_id, table, self.backlog.claims, self.backlog.has)
        self.journal = EventJournal(
            redis, keep_seconds=serving.resume_seconds, is_vouched_for=self.locks.is_certain, has_spool=True
        )
        self.locks.on_renewal, self.locks.on_lost = self.journal.show, self.journal.lose
        spool = MongoEventSpool(store.databases)
        self.spooler = Spooler(self.journal, spool, table.lose)
        self.cancellations = Cancellations(redis, table)
        self.service = TurnService(
            pool,
            store,
            self.locks,
            table,
            self.backlog,
            Execution(self.backlog, self.locks, reservations, Compactor(store), RunMetrics(metrics), clock),
            self.journal,
            limiter,
            clock,
        )
        self.runs = RunLookup(table, store, self.locks, self.cancellations, clock)
        self.replays = RunReplays(
            redis,
            self.runs,
            clock,
            keep_seconds=serving.resume_seconds,
            heartbeat_seconds=serving.heartbeat_seconds,
        )
        self.repeats = RepeatedRequests(redis, self.runs, settings.security.secret_key)
        self.lost_runs = LostRuns(redis, worker_id, self.locks.has)
        self.takeover = Takeover(
            redis,
            self.lost_runs,
            self.locks,
            reservations,
            store,
            spool,
            self.backlog,
            self.journal,
            self.service.restart,
            lambda: table.is_draining,
            clock,
        )
        self.handover = Handover(table, self.locks, self.journal, self.replays, has_others)

    def upkeep(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run by the side for as long as the worker does, each by its name."""
        return {
            "run-locks": self.locks.run(),
            "repeats": self.repeats.run(),
            "event-journal": self.journal.run(),
            "event-spool": self.spooler.run(),
            "takeover": self.takeover.run(),
            "cancellations": self.cancellations.run(),
            "save-backlog": self.backlog.run(),
        }
