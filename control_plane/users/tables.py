from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Revised, Timestamped
from control_plane.database.changes import SECRET


class User(Identified, Timestamped, Revised, Base):
    """A person who can log in. `password_hash` is an argon2id encoded hash."""

    __tablename__ = "users"

    username: Mapped[str]
    email: Mapped[str | None]
    display_name: Mapped[str | None]
    password_hash: Mapped[str] = mapped_column(info=SECRET)
    is_sys_admin: Mapped[bool] = mapped_column(default=False)
    is_deleted: Mapped[bool] = mapped_column(default=False)


# A name is free again once its user is deleted, and names differ in more than case.
Index("uq_users_username_living", func.lower(User.username), unique=True, postgresql_where=text("NOT is_deleted"))
Index(
    "uq_users_email_living",
    func.lower(User.email),
    unique=True,
    postgresql_where=text("NOT is_deleted AND email IS NOT NULL"),
)
