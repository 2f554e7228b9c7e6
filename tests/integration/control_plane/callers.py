"""People who call the API in tests, and the organizations they belong to."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from control_plane.users.tables import User
from control_plane.wiring import Resources
from shared.settings import ControlPlaneSettings, read_control_plane_settings

PASSWORD = "correct horse battery staple"


def control_plane_settings(
    postgres_url: str, redis_url: str, broker_url: str, storage_root: Path, **more: str
) -> ControlPlaneSettings:
    variables = {
        "POSTGRES_URL": postgres_url,
        "REDIS_URL": redis_url,
        "BROKER_URL": broker_url,
        "STORAGE_ROOT": str(storage_root),
        "PACKAGE_CACHE": str(storage_root / "package-cache"),
        "SECRET_KEY": "a key for tests that is long enough",
        "WORKER_TOKEN": "a token for tests that is long enough",
        "ENCRYPTION_KEYS": "k1:" + "ab" * 32,
        "ALLOW_PRIVATE_MODEL_HOSTS": "true",
        "CORS_ORIGINS": "https://console.example",
        # What prunes is not started with every test: nothing is old enough in those that do not make it so.
        "AUDIT_RETENTION_DAYS": "0",
        "USAGE_RETENTION_DAYS": "0",
        **more,
    }
    return read_control_plane_settings({f"CADENCE_{name}": value for name, value in variables.items()})


class Caller:
    """Somebody with a session."""

    def __init__(self, http: httpx.AsyncClient, user_id: UUID, username: str, token: str) -> None:
        self.http = http
        self.user_id = user_id
        self.username = username
        self.token = token

    async def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **request.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **request)

    async def get(self, path: str, **request: Any) -> httpx.Response:
        return await self.call("GET", path, **request)

    async def post(self, path: str, json: Any = None, **request: Any) -> httpx.Response:
        return await self.call("POST", path, json=json, **request)

    async def patch(self, path: str, json: Any, **request: Any) -> httpx.Response:
        return await self.call("PATCH", path, json=json, **request)

    async def delete(self, path: str, **request: Any) -> httpx.Response:
        return await self.call("DELETE", path, **request)


class Tenant:
    """An organization with one admin and one plain member."""

    def __init__(self, org_id: str, admin: Caller, member: Caller) -> None:
        self.org_id = org_id
        self.path = f"/api/orgs/{org_id}"
        self.admin = admin
        self.member = member


class World:
    """Makes users and organizations the way an operator does, through the API."""

    def __init__(self, http: httpx.AsyncClient, resources: Resources) -> None:
        self._http = http
        self._resources = resources
        self._root: Caller | None = None
        self._count = 0
        self._password_hash: str | None = None

    async def sys_admin(self) -> Caller:
        """The first sys_admin, whom no API can make."""
        if self._root is None:
            async with self._resources.database() as session:
                hashed = await self._resources.passwords.hash(PASSWORD)
                user = User(username="root", password_hash=hashed, is_sys_admin=True)
                session.add(user)
                await session.commit()
            self._root = await self._with_session(user.id, user.username)
        return self._root

    async def log_in(self, username: str, password: str = PASSWORD) -> Caller:
        answer = await self._http.post("/api/auth/login", json={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        token = answer.json()["token"]
        me = await self._http.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        return Caller(self._http, UUID(me.json()["user_id"]), username, token)

    async def _with_session(self, user_id: UUID, username: str) -> Caller:
        """Somebody who has logged in: every test needs several, and those of logging in ask how they came to it."""
        minutes = self._resources.settings.security.access_token_minutes
        session = await self._resources.sessions.start(user_id, timedelta(minutes=minutes))
        token = self._resources.tokens.issue(
            user_id, session.session_id, issued_at=session.created_at, expires_at=session.expires_at
        )
        return Caller(self._http, user_id, username, token)

    async def user(self, **fields: Any) -> Caller:
        """A logged-in user without an organization."""
        root = await self.sys_admin()
        self._count += 1
        body = {"username": f"user{self._count}", "password": PASSWORD, **fields}
        answer = await root.post("/api/admin/users", body)
        assert answer.status_code == 201, answer.text
        return await self._with_session(UUID(answer.json()["user_id"]), body["username"])

    async def organization(self, **fields: Any) -> str:
        """The id of an organization nobody belongs to, and that no tier limits."""
        root = await self.sys_admin()
        self._count += 1
        answer = await root.post(
            "/api/admin/orgs", {"name": f"Organization {self._count}", "tier": "enterprise", **fields}
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["org_id"])

    async def member(self, org_id: str, *, is_admin: bool = False) -> Caller:
        """A new user in the organization, logged in."""
        root = await self.sys_admin()
        self._count += 1
        username = f"user{self._count}"
        body = {"username": username, "password": PASSWORD, "is_admin": is_admin}
        answer = await root.post(f"/api/admin/orgs/{org_id}/users", body)
        assert answer.status_code == 201, answer.text
        return await self._with_session(UUID(answer.json()["user_id"]), username)

    async def tenant(self) -> Tenant:
        org_id = await self.organization()
        return Tenant(org_id, await self.member(org_id, is_admin=True), await self.member(org_id))
