from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ForeignKey, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Timestamped
from control_plane.database.changes import SECRET


class APIKey(Identified, Timestamped, Base):
    """What a program logs in with. The key itself is nowhere: `digest` is its hash, `hint` how it ends.

    `org_id` holds it to one organization. Revoking deletes the row. `budget_id` is the first of the keys that it
    replaces, which may be gone; None when it replaces none. Keys with the same one spend from one budget.
    """

    __tablename__ = "api_keys"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True, info=SECRET)
    hint: Mapped[str]
    scopes: Mapped[list[str]]
    expires_at: Mapped[datetime | None]
    budget_per_month: Mapped[Decimal | None] = mapped_column(Numeric(14, 6))
    budget_id: Mapped[UUID | None]
    last_used_at: Mapped[datetime | None]
