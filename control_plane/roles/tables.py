from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from control_plane.database.base import Base, Identified, Revised, Timestamped


class Role(Identified, Timestamped, Revised, Base):
    """A custom role. The built-in ones are code, not rows."""

    __tablename__ = "roles"
    __table_args__ = (CheckConstraint("scope IN ('system', 'organization')", name="scope"),)

    name: Mapped[str]
    description: Mapped[str | None]
    scope: Mapped[str]
    held: Mapped[list["RolePermission"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="RolePermission.permission"
    )


class RolePermission(Base):
    __tablename__ = "role_permissions"

    role_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True)
    permission: Mapped[str] = mapped_column(primary_key=True)


class UserRole(Identified, Base):
    """That a user holds a role: in one organization, or for a role of the system in all of them and the system itself.

    Whoever loses their place in an organization loses its roles in the same statement.
    """

    __tablename__ = "user_roles"
    __table_args__ = (
        UniqueConstraint("user_id", "role_id", "org_id", postgresql_nulls_not_distinct=True),
        ForeignKeyConstraint(
            ["user_id", "org_id"],
            ["user_org_memberships.user_id", "user_org_memberships.org_id"],
            name="fk_user_roles_membership",
            ondelete="CASCADE",
        ),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    role_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id"), index=True)
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


Index("uq_roles_name", func.lower(Role.name), unique=True)
