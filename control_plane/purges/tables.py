from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Timestamped


class OrganizationPurge(Timestamped, Base):
    """A purge that is not finished. `let_go_by` are the workers that hold nothing of the organization any more;
    `is_dropped` that one of them has removed its database since. No foreign key: it outlives the organization's row.
    """

    __tablename__ = "organization_purges"

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    let_go_by: Mapped[list[str]] = mapped_column(default=list)
    is_dropped: Mapped[bool] = mapped_column(default=False)
