from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Timestamped
from control_plane.database.changes import SECRET


class DataKey(Identified, Timestamped, Base):
    """What seals an organization's secrets, or without one the platform's; the key of the highest generation seals.

    Whoever seals or keeps what this key sealed holds a key-share lock on the row, so that it is not deleted meanwhile.
    """

    __tablename__ = "data_keys"
    __table_args__ = (UniqueConstraint("org_id", "generation", postgresql_nulls_not_distinct=True),)

    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    generation: Mapped[int]
    wrapped_key: Mapped[str] = mapped_column(info=SECRET)
