from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Revised, Timestamped


class _Said:
    """What one tier says of one setting. A value taken back leaves the row, with its revision."""

    key: Mapped[str] = mapped_column(primary_key=True)
    # SQL NULL is "no value of its own"; JSON null would be one.
    value: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    is_overridable: Mapped[bool] = mapped_column(default=True)


class GlobalSetting(_Said, Timestamped, Revised, Base):
    __tablename__ = "global_settings"


class OrganizationSetting(_Said, Timestamped, Revised, Base):
    """An organization's own, and its defaults for its orchestrators: the registry knows which key is which."""

    __tablename__ = "organization_settings"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
