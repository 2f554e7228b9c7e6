from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base


class OutboxEvent(Base):
    """An event that committed together with the change it tells of; `published_at` is when the broker confirmed it."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_unpublished", "sequence", postgresql_where=text("published_at IS NULL")),)

    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Mapped[UUID] = mapped_column(unique=True)
    routing_key: Mapped[str]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    published_at: Mapped[datetime | None]
