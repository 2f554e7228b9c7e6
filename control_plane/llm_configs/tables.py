from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Revised, Timestamped
from control_plane.database.changes import SECRET


class LLMConfig(Identified, Timestamped, Revised, Base):
    """One BYOK credential. `sealed_api_key` opens only for this row (`shared.snapshots.api_key_place`)."""

    __tablename__ = "organization_llm_configs"
    __table_args__ = (
        Index(
            "uq_organization_llm_configs_name_living",
            "org_id",
            "name",
            unique=True,
            postgresql_where=text("NOT is_deleted"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str]
    provider: Mapped[str]
    model_name: Mapped[str | None]
    base_url: Mapped[str | None]
    additional_config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    sealed_api_key: Mapped[str] = mapped_column(info=SECRET)
    key_fingerprint: Mapped[str]
    key_last4: Mapped[str]
    is_enabled: Mapped[bool] = mapped_column(default=True)
    is_deleted: Mapped[bool] = mapped_column(default=False)
