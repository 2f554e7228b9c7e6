from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base

# Neither the instance nor the user has to be there any more; what was used was used.


class UsageRun(Base):
    """One run that has ended. That its row is there says that it was counted."""

    __tablename__ = "usage_runs"
    __table_args__ = (Index("ix_usage_runs_ended_at", "ended_at"), Index("ix_usage_runs_org_id", "org_id"))

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    instance_id: Mapped[UUID]
    user_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    status: Mapped[str]
    ended_at: Mapped[datetime]


class UsageCall(Base):
    """One model call of a run, by its place among those of one worker. That its row is there says that it was counted.

    Prices, in US dollars per million tokens, are those that held for the run; None is unknown, not free.
    """

    __tablename__ = "usage_calls"
    __table_args__ = (Index("ix_usage_calls_ended_at", "ended_at"), Index("ix_usage_calls_org_id", "org_id"))

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    call: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    instance_id: Mapped[UUID]
    user_id: Mapped[UUID]
    api_key_id: Mapped[UUID | None]
    ended_at: Mapped[datetime]
    at: Mapped[datetime]
    provider: Mapped[str]
    model_name: Mapped[str]
    node: Mapped[str]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    is_estimated: Mapped[bool]
    duration_ms: Mapped[int]
    input_price: Mapped[Decimal | None] = mapped_column(Numeric(12, 6))
    output_price: Mapped[Decimal | None] = mapped_column(Numeric(12, 6))
    cached_price: Mapped[Decimal | None] = mapped_column(Numeric(12, 6))
    cost: Mapped[Decimal | None] = mapped_column(Numeric(24, 12))


class DailyMessages(Base):
    """How many turns of an instance ended on a day (UTC), however they ended."""

    __tablename__ = "usage_daily_messages"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    instance_id: Mapped[UUID] = mapped_column(primary_key=True)
    messages: Mapped[int]
    failed: Mapped[int]
    cancelled: Mapped[int]


class MonthlyKeyCost(Base):
    """What the runs that were begun with an API key, or with one that it replaced, cost in a month (UTC).

    In US dollars, of the calls with a known price. `month` is its first day, `budget_id` what those keys share.
    """

    __tablename__ = "usage_monthly_keys"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    budget_id: Mapped[UUID] = mapped_column(primary_key=True)
    cost: Mapped[Decimal] = mapped_column(Numeric(24, 12))


class DailyUsage(Base):
    """What the calls to one model came to in the runs of an instance that ended on a day (UTC).

    `messages` are the runs that used the model, so they do not add up over models. `cost` is that of the calls with a
    known price, in US dollars; the others are `unpriced_calls`.
    """

    __tablename__ = "usage_daily"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    instance_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    messages: Mapped[int]
    calls: Mapped[int]
    estimated_calls: Mapped[int]
    unpriced_calls: Mapped[int]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    cost: Mapped[Decimal] = mapped_column(Numeric(24, 12))
