"""What runs used, on its way from the workers to whoever counts it.

Workers append one entry per run to one Redis stream, in the script that ends the run; the control plane counts what is
in it and takes it out (decision 0037). An entry may come twice, late and in any order.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

STREAM = "cadence.usage"
FIELD = "event"
DEAD_STREAM = "cadence.usage.dead"
"""Entries nobody can read, kept for an operator."""

MAX_ASKED = 1_000

EndedAs = Literal["completed", "failed", "cancelled", "handed_over"]
"""A run that was handed over goes on at another worker, which tells how it ended."""


class CallUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model call. Prices are those that held for the run, in US dollars per million tokens; `cost` is exact.

    A model that nobody knows, of a run whose worker was lost, has no name. `cached_tokens` are among the input tokens.
    `is_estimated`: the provider did not count.
    """

    provider: str
    model_name: str
    node: str
    input_tokens: int
    output_tokens: int
    at: datetime
    cached_tokens: int = 0
    is_estimated: bool = False
    duration_ms: int = 0
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    cached_price: Decimal | None = None
    cost: Decimal | None = None


class RunFinished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="run.finished", tag_field="event"):
    """A run that has ended, however, with the model calls that one worker made for it.

    `epoch` counts the workers that have driven the run. A call is known by its run, its epoch and its place in `calls`.
    """

    run_id: UUID
    org_id: UUID
    instance_id: UUID
    user_id: UUID
    status: EndedAs
    ended_at: datetime
    calls: tuple[CallUsage, ...]
    api_key_id: UUID | None = None
    epoch: int = 1


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of these runs are not counted?"""

    run_ids: Annotated[tuple[UUID, ...], Meta(max_length=MAX_ASKED)]


class Uncounted(msgspec.Struct, frozen=True):
    """Runs that are not counted and still can be. None that ended before `oldest` can."""

    run_ids: tuple[UUID, ...]
    oldest: datetime | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RunFinished)


def encode_run(run: RunFinished) -> bytes:
    return _encoder.encode(run)


def decode_run(payload: bytes) -> RunFinished:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(payload)
