"""The relay: moves committed events from the outbox to the broker, in order, losing none.

Any number of replicas may run one; a session-level advisory lock lets exactly one work. An event may be published
twice (after a crash between confirm and mark, or when the lock changes hands), and one that the broker refused by
itself comes after those that were sent behind it, which consumers must bear anyway: events carry revisions.
"""

import asyncio
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from control_plane.database.connection import BoundedConnection
from control_plane.database.scopes import PLATFORM_ROLE
from control_plane.database.statements import Question
from control_plane.events.outbox import CHANNEL
from control_plane.events.publisher import EventPublisher, Outgoing
from shared.errors import BrokerUnavailable
from shared.logging import get_logger

log = get_logger(__name__)

RELAY_LOCK = 0x0CADE4D0
BATCH = 100
POLL_SECONDS = 1.0
"""How long a lost notification can delay an event, and how soon a standby takes over."""

GATHER_SECONDS = 0.01
"""What comes within this time after something was published goes together. To send one costs as much as to send ten."""

FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 5.0
KEPT_HOURS = 24
"""Published rows are kept this long, for whoever asks what was sent."""

PRUNE_EVERY_SECONDS = 600.0
PRUNE_BATCH = 10_000

# A peer that vanished without a word is noticed within ten seconds instead of the system's two hours.
_CONNECT_OPTIONS = {
    "connect_timeout": "3",
    "application_name": "cadence-relay",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# The same for the server, which keeps the lock of a relay whose machine vanished until it notices.
_NOTICED_BY_SERVER = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"
# What was confirmed is marked and what follows is read in one round trip. The two see the same moment, hence the ALL.
_NEXT = b"""
    WITH marked AS (UPDATE outbox SET published_at = now() WHERE sequence = ANY($1::bigint[]))
    SELECT sequence, event_id, routing_key, payload FROM outbox
    WHERE published_at IS NULL AND sequence <> ALL($1::bigint[]) ORDER BY sequence LIMIT $2::bigint
"""
_PRUNE = """
    DELETE FROM outbox WHERE sequence IN (
        SELECT sequence FROM outbox WHERE published_at < now() - make_interval(hours => %s) LIMIT %s)
"""


class _Connection(BoundedConnection):
    """What is pruned may take a while."""

    answer_seconds = 60.0


class Relay:
    """Runs until cancelled. What it cannot reach it waits for; anything else that it raises is a bug for its owner."""

    def __init__(self, postgres_url: str, publisher: EventPublisher, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._conninfo = make_conninfo(postgres_url, **_CONNECT_OPTIONS)
        self._publisher = publisher
        self._poll_seconds = poll_seconds
        self._retry_seconds = FIRST_RETRY_SECONDS

    async def run(self) -> None:
        try:
            while True:
                _obey_cancellation()
                try:
                    connection = await _Connection.connect(self._conninfo, autocommit=True)
                    async with connection:
                        await connection.execute(_NOTICED_BY_SERVER)
                        # The outbox holds the events of every organization.
                        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(PLATFORM_ROLE)))
                        await self._wait_for_turn(connection)
                        await self._lead(connection)
                except psycopg.OperationalError as error:
                    log.warning("relay_lost_postgres", error=type(error).__name__)
                    await self._back_off()
        finally:
            await asyncio.shield(self._publisher.stop())

    async def _wait_for_turn(self, connection: _Connection) -> None:
        # Tried rather than waited for: a statement that waits for hours holds back vacuum.
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (RELAY_LOCK,))
            row = await cursor.fetchone()
            if row and row[0]:
                return
            await asyncio.sleep(self._poll_seconds)

    async def _lead(self, connection: _Connection) -> None:
        log.info("relay_leads")
        # Listening starts before the first look, so nothing can commit unseen in between.
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        loop = asyncio.get_running_loop()
        next_prune = loop.time()
        is_connected = False
        while True:
            _obey_cancellation()
            try:
                if not is_connected:
                    await self._publisher.start()
                    is_connected = True
                if await self._drain(connection):
                    await asyncio.sleep(GATHER_SECONDS)
                self._retry_seconds = FIRST_RETRY_SECONDS
            except BrokerUnavailable as error:
                log.warning("relay_waits_for_broker", reason=error.detail, retry_seconds=self._retry_seconds)
                is_connected = False
                await self._back_off()
                continue
            if loop.time() >= next_prune:
                await connection.execute(_PRUNE, (KEPT_HOURS, PRUNE_BATCH))
                next_prune = loop.time() + PRUNE_EVERY_SECONDS
            async for _ in connection.notifies(timeout=self._poll_seconds, stop_after=1):
                pass

    async def _drain(self, connection: _Connection) -> bool:
        """Publish everything that is waiting; whether anything was. Raises BrokerUnavailable, having marked what was
        confirmed.
        """
        marked: list[int] = []
        while rows := await connection.ask(Question(_NEXT, (marked, BATCH))):
            _obey_cancellation()
            sequences = {event_id: sequence for sequence, event_id, _, _ in rows}
            confirmed: list[UUID] = []
            try:
                await self._publisher.publish([Outgoing(*event) for _, *event in rows], confirmed.append)
            except BaseException:
                if confirmed:
                    await connection.ask(Question(_NEXT, ([sequences[event_id] for event_id in confirmed], 0)))
                raise
            marked = list(sequences.values())
        return bool(marked)

    async def _back_off(self) -> None:
        await asyncio.sleep(self._retry_seconds)
        self._retry_seconds = min(self._retry_seconds * 2, LAST_RETRY_SECONDS)


def _obey_cancellation() -> None:
    """Raise the CancelledError that a library may have swallowed.

    `asyncio.wait_for` of Python 3.11 drops a cancellation that arrives together with the result it waits for, and the
    drivers use it; without this check a relay asked to stop at that moment would go on for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
