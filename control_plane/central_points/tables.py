from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Revised, Timestamped


class CentralPoint(Identified, Timestamped, Revised, Base):
    """An address that stays while the orchestrator behind it changes.

    What callers without a session may ask of a public one is `requests_per_minute`, all of them together, and
    `requests_per_minute_per_address` each. A deleted one stays, so that workers hear of it.
    """

    __tablename__ = "central_points"
    __table_args__ = (
        CheckConstraint("visibility IN ('private', 'public')", name="visibility"),
        Index("ix_central_points_revision", "revision"),
        Index("uq_central_points_name_living", "org_id", "name", unique=True, postgresql_where=text("NOT is_deleted")),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    # Purging an orchestrator takes along the points that were deleted before it.
    instance_id: Mapped[UUID] = mapped_column(ForeignKey("orchestrator_instances.id", ondelete="CASCADE"), index=True)
    visibility: Mapped[str] = mapped_column(default="private")
    requests_per_minute: Mapped[int]
    requests_per_minute_per_address: Mapped[int]
    is_deleted: Mapped[bool] = mapped_column(default=False)
