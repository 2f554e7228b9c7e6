from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Revised, Timestamped


class Tier(Timestamped, Revised, Base):
    """What organizations of a tier may have, and how fast they may use it. None is unlimited.

    The first five are things that are counted when one more is made, the others flows (`shared.limits`).
    """

    __tablename__ = "tiers"

    name: Mapped[str] = mapped_column(primary_key=True)
    orchestrators: Mapped[int | None]
    members: Mapped[int | None]
    llm_configs: Mapped[int | None]
    central_points: Mapped[int | None]
    plugins: Mapped[int | None]
    requests_per_minute: Mapped[int | None]
    request_burst: Mapped[int | None]
    chats_per_minute: Mapped[int | None]
    member_requests_per_minute: Mapped[int | None]
    concurrent_runs: Mapped[int | None]
    messages_per_day: Mapped[int | None]
    messages_per_month: Mapped[int | None]
    tokens_per_day: Mapped[int | None]
    tokens_per_month: Mapped[int | None]
