"""Logging in, staying in and getting out."""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.passwords import Passwords
from control_plane.auth.throttle import LoginThrottle
from control_plane.users.repository import UserRepository
from shared.errors import WrongCredentials
from shared.security.sessions import Session, SessionStore
from shared.security.tokens import TokenSigner


class AuthService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        users: UserRepository,
        passwords: Passwords,
        throttle: LoginThrottle,
        sessions: SessionStore,
        tokens: TokenSigner,
        token_minutes: int,
    ) -> None:
        self._session = session
        self._users = users
        self._passwords = passwords
        self._throttle = throttle
        self._sessions = sessions
        self._tokens = tokens
        self._lifetime = timedelta(minutes=token_minutes)

    async def log_in(self, username: str, password: str, *, address: str, user_agent: str) -> tuple[str, datetime]:
        """A new session's token and its end. Raises RateLimited, or WrongCredentials without saying what was wrong."""
        async with self._throttle.attempt(username, address) as attempt:
            user = await self._users.find_by_username(username)
            # Gives the connection back: a burst of logins queues for hashing, and must not hold the pool meanwhile.
            await self._session.commit()
            if not await self._passwords.matches(password, user.password_hash if user else None) or user is None:
                await attempt.failed()
                raise WrongCredentials
        encoded = user.password_hash
        if self._passwords.is_outdated(encoded):
            old, encoded = encoded, await self._passwords.hash(password)
            await self._users.replace_hash(user.id, old, encoded)
        session = await self._sessions.start(user.id, self._lifetime, address=address, user_agent=user_agent)
        if not await self._users.has_hash(user.id, encoded):
            # A new password ended every session while this one was not there yet: it must not outlive the old one.
            await self._sessions.end(session.session_id, user.id)
            raise WrongCredentials
        return self._issue(session)

    async def refresh(self, session_id: str, *, address: str, user_agent: str) -> tuple[str, datetime]:
        """Exchange a session for a new one. Raises NotAuthenticated when another refresh was first."""
        session = await self._sessions.get(session_id)
        return self._issue(await self._sessions.rotate(session, self._lifetime, address=address, user_agent=user_agent))

    async def log_out(self, session_id: str) -> None:
        session = await self._sessions.get(session_id)
        await self._sessions.end(session_id, session.user_id)

    async def log_out_everywhere(self, session_id: str) -> None:
        """End every session of whoever holds this one, this one included."""
        session = await self._sessions.get(session_id)
        await self._sessions.end_all(session.user_id)

    def _issue(self, session: Session) -> tuple[str, datetime]:
        token = self._tokens.issue(
            session.user_id, session.session_id, issued_at=session.created_at, expires_at=session.expires_at
        )
        return token, session.expires_at
