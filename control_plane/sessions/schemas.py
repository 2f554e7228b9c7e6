from datetime import datetime
from typing import Self

import msgspec

from shared.security.sessions import Session


class SessionView(msgspec.Struct):
    """`address` and `user_agent` are those of the login, or of the last time the token was refreshed."""

    id: str
    created_at: datetime
    expires_at: datetime
    address: str
    user_agent: str
    is_current: bool

    @classmethod
    def of(cls, session: Session, current: str | None = None) -> Self:
        return cls(
            id=session.session_id,
            created_at=session.created_at,
            expires_at=session.expires_at,
            address=session.address,
            user_agent=session.user_agent,
            is_current=session.session_id == current,
        )
