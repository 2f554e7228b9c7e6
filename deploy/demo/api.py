"""A small client of the public REST API, for seeding."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp

from deploy.errors import DeployError

PAGE_SIZE = 200


class SeedFailed(DeployError):
    """The demo could not be set up; the message says at which step and why, for the person at the terminal."""


class CallRefused(SeedFailed):
    """The API answered with a problem of the public `code`. `reasons` are its single findings, `(field, message)`."""

    def __init__(self, doing: str, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"could not {doing}: {_reasons(status, problem)}")
        self.doing = doing
        self.status = status
        self.code = str(problem.get("code") or status)
        self.detail = str(problem.get("detail") or f"HTTP {status}")
        self.reasons = [(str(e.get("field")), str(e.get("message"))) for e in problem.get("errors") or ()]


class CadenceAPI:
    """Calls below `base_url`; every answer that is not a success becomes a SeedFailed in plain words.

    `headers` are sent with every call: after `login`, the session's.
    """

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url.rstrip("/")
        self._session = session
        self.headers: dict[str, str] = {}

    async def login(self, username: str, password: str) -> str:
        """The token; every later call is made with it."""
        body = {"username": username, "password": password}
        answer = await self.call("POST", "/api/auth/login", "log in", json=body)
        self.headers = {"Authorization": f"Bearer {answer['token']}"}
        return str(answer["token"])

    async def call(
        self, method: str, path: str, doing: str, *, accept: tuple[int, ...] = (), **options: Any
    ) -> dict[str, Any]:
        """The JSON body of an answer, `{}` when it has none. `accept` are statuses that are no failure here."""
        url = self._base_url + path
        try:
            async with self._session.request(method, url, headers=self.headers, **options) as response:
                is_json = "json" in response.content_type
                body: Any = await response.json(content_type=None) if is_json else {}
                if response.status < 400 or response.status in accept:
                    return body if isinstance(body, dict) else {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise SeedFailed(
                f"could not {doing}: {url} did not answer properly ({str(error) or type(error).__name__})"
            ) from None
        raise CallRefused(doing, response.status, body if isinstance(body, dict) else {})

    async def items(self, path: str, doing: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        """Everything of a paged list."""
        cursor = ""
        while True:
            params = {"limit": str(PAGE_SIZE), **query} | ({"cursor": cursor} if cursor else {})
            page = await self.call("GET", f"{path}?{urlencode(params)}", doing)
            for item in page["items"]:
                yield item
            cursor = page.get("next_cursor") or ""
            if not cursor:
                return


def _reasons(status: int, problem: dict[str, Any]) -> str:
    lines = [str(problem.get("detail") or f"HTTP {status}")]
    lines += [f"{e.get('field')}: {e.get('message')}" for e in problem.get("errors") or ()]
    return "; ".join(lines) + f" ({problem.get('code') or status})"
