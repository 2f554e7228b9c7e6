"""What both planes declare on the broker. Whoever comes first creates it, so both must ask for exactly the same.

RabbitMQ: the durable topic exchange `EXCHANGE`; one queue per worker process (`worker_queue`), bound to every routing
key and dead-lettering to the durable *fanout* exchange `DEAD_LETTERS`, whose one durable queue has the same name.
NATS: the stream `STREAM` over `STREAM_SUBJECTS` (subject = routing key) and the stream `DEAD_STREAM` over the subject
`DEAD_LETTERS`. A stream that is there already is used as it is, so that an operator can choose replicas and limits.
"""

from shared.events import EXCHANGE

STREAM = "CADENCE_ORCHESTRATORS"
STREAM_SUBJECTS = ("orchestrator.*", "settings.*", "plugin.*")
STREAM_MAX_AGE_SECONDS = 3600
"""A worker that was away for longer learns everything from the change feed anyway."""

DEDUPLICATION_SECONDS = 120
"""How long JetStream remembers a `Nats-Msg-Id`; RabbitMQ has no such thing, consumers must bear duplicates."""

DEAD_STREAM = "CADENCE_DEAD"
DEAD_MAX_AGE_SECONDS = 14 * 24 * 3600

WORKER_QUEUE_EXPIRES_SECONDS = 600
"""A RabbitMQ queue nobody has consumed from for this long is removed together with what it holds."""


def worker_queue(worker_id: str) -> str:
    """The queue (RabbitMQ) or the durable consumer's base name (NATS) of one worker process."""
    return f"{EXCHANGE}.{worker_id}"
