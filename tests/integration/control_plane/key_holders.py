"""Programs with an API key."""

from typing import Any

import httpx

from tests.integration.control_plane.callers import Caller

READ_MEMBERS = "cadence:org:members:read"
READ_ORG = "cadence:org:read"


class KeyHolder:
    """A program with an API key."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self._http = http
        self.key = key

    async def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        return await self._http.request(method, path, headers={"X-API-KEY": self.key}, **request)

    async def get(self, path: str) -> httpx.Response:
        return await self.call("GET", path)


async def made(caller: Caller, scopes: list[str], **fields: Any) -> tuple[KeyHolder, str]:
    """A program with a new key of the caller's, and the key's id."""
    answer = await caller.post("/api/me/api-keys", {"name": "program", "scopes": scopes, **fields})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return KeyHolder(caller.http, answer.json()["key"]), answer.json()["api_key"]["id"]
