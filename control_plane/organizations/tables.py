from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Revised, Timestamped


class Organization(Identified, Timestamped, Revised, Base):
    """A tenant. Deleting one keeps the row (`is_deleted`) so that its data can be accounted for."""

    __tablename__ = "organizations"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended')", name="status"),
        Index("uq_organizations_domain_living", "domain", unique=True, postgresql_where=text("NOT is_deleted")),
    )

    name: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    display_name: Mapped[str | None]
    domain: Mapped[str | None]
    tier: Mapped[str] = mapped_column(ForeignKey("tiers.name"), default="free")
    budget_per_month: Mapped[Decimal | None] = mapped_column(Numeric(14, 6))
    description: Mapped[str | None]
    contact_email: Mapped[str | None]
    website: Mapped[str | None]
    logo_url: Mapped[str | None]
    country: Mapped[str | None]
    timezone: Mapped[str | None]
    is_deleted: Mapped[bool] = mapped_column(default=False)
