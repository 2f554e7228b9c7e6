from decimal import Decimal

from sqlalchemy import Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Revised, Timestamped


class ProviderModel(Identified, Timestamped, Revised, Base):
    """A model of the catalogue. Prices are US dollars per million tokens; None means unknown, not free."""

    __tablename__ = "provider_models"
    __table_args__ = (UniqueConstraint("provider", "model_name"),)

    provider: Mapped[str]
    model_name: Mapped[str]
    display_name: Mapped[str | None]
    context_window: Mapped[int | None]
    input_price: Mapped[Decimal | None] = mapped_column(Numeric(12, 6))
    output_price: Mapped[Decimal | None] = mapped_column(Numeric(12, 6))
    cached_price: Mapped[Decimal | None] = mapped_column(Numeric(12, 6))
    is_enabled: Mapped[bool] = mapped_column(default=True)
