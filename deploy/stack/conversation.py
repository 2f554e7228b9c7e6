"""One conversation over the streaming chat endpoint, printed as it comes."""

import json
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any

import aiohttp
from rich.console import Console
from rich.markup import escape

from deploy.demo.api import CadenceAPI, SeedFailed

_SHOWN_CHARS = 200


async def find_orchestrator(api: CadenceAPI, wanted: str | None) -> str:
    """The path of the orchestrator with this id or name, or of the only one. Raises SeedFailed."""
    found: dict[str, str] = {}
    async for organization in api.items("/api/orgs", "list organizations"):
        path = f"/api/orgs/{organization['org_id']}/orchestrators"
        async for orchestrator in api.items(path, "list orchestrators"):
            place = f"{path}/{orchestrator['instance_id']}"
            if wanted in (orchestrator["instance_id"], orchestrator["name"]):
                return place
            found[place] = f"{orchestrator['name']} ({orchestrator['instance_id']})"
    if wanted is None and len(found) == 1:
        return next(iter(found))
    listing = "; ".join(found.values()) or "none at all; `cadence up --demo` makes one"
    raise SeedFailed(
        f"choose an orchestrator, {wanted!r} is none: there is {listing}" if wanted else f"choose one of: {listing}"
    )


class Conversation:
    """Keeps the conversation's id, so that each message sees the ones before it."""

    def __init__(
        self, session: aiohttp.ClientSession, orchestrator_url: str, token: str, console: Console, *, as_json: bool
    ) -> None:
        self._session = session
        self._url = f"{orchestrator_url}/completion/stream"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._console = console
        self._as_json = as_json
        self._conversation_id: str | None = None

    async def say(self, text: str) -> bool:
        """Send a message and print the answer; False when the run failed."""
        body = {"message": text} | ({"conversation_id": self._conversation_id} if self._conversation_id else {})
        try:
            async with self._session.post(self._url, json=body, headers=self._headers) as response:
                if response.status != 200:
                    self._refused(response.status, await response.text())
                    return False
                return await self._show(events(response.content))
        except (aiohttp.ClientError, TimeoutError) as error:
            self._console.print(f"[red]The connection was lost: {escape(str(error) or type(error).__name__)}[/]")
            return False

    async def _show(self, stream: AsyncIterator[tuple[str, dict[str, Any]]]) -> bool:
        async for kind, data in stream:
            if self._as_json:
                self._console.print(json.dumps({"event": kind, **data}), markup=False, highlight=False, soft_wrap=True)
            else:
                self._print(kind, data)
            if kind == "metadata":
                self._conversation_id = data.get("conversation_id", self._conversation_id)
                if data.get("final"):
                    return True
            elif kind == "error":
                return False
        self._console.print("[red]The stream ended before the answer did.[/]")
        return False

    def _print(self, kind: str, data: dict[str, Any]) -> None:
        put = partial(self._console.print, highlight=False, soft_wrap=True)
        match kind:
            case "message":
                put(data["content"], end="", markup=False)
            case "agent_start":
                put(f"[dim]· {escape(str(data['agent']))}[/]")
            case "tool_start":
                put(f"[cyan]→ {escape(data['tool'])}[/] [dim]{_short(data['args'])}[/]")
            case "tool_end" if data.get("error") is not None:
                put(f"[red]✗ {escape(data['tool'])}[/] [dim]{_short(data['error'])}[/]")
            case "tool_end":
                put(f"[cyan]← {escape(data['tool'])}[/] [dim]{_short(data.get('result'))}[/]")
            case "suggestion":
                put(f"[dim]? {escape(data['content'])}[/]")
            case "error":
                put(f"\n[red]{escape(data['message'])}[/] [dim]({data['code']})[/]")
            case "metadata" if data.get("final"):
                usage: dict[str, Any] = data.get("usage") or {}
                tokens = f"{usage.get('input_tokens', 0)} + {usage.get('output_tokens', 0)} tokens"
                put(f"\n[dim]{tokens}, {data.get('duration_ms', 0) / 1000:.1f} s[/]")

    def _refused(self, status: int, body: str) -> None:
        try:
            problem = json.loads(body)
            reason = f"{problem['detail']} ({problem['code']})"
        except (ValueError, KeyError, TypeError):
            reason = body[:_SHOWN_CHARS]
        self._console.print(f"[red]HTTP {status}: {escape(reason)}[/]")


async def events(lines: AsyncIterable[bytes]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Type and data of each server-sent event; comments, which only keep the connection open, are left out."""
    kind, data = "message", list[str]()
    async for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if data:
                yield kind, json.loads("\n".join(data))
            kind, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escape(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + " …")
