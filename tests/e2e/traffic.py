"""People at work: chats, logins, readers and an admin who changes things, all at once and all the time.

Whatever happens to the stack, `Traffic` notes every answer with what was promised by it. What an answer may be at all
is checked on the spot; what must be true afterwards is asked with `assert_nothing_is_lost`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec

from tests.e2e.client import Answer, Client, Event
from tests.e2e.tenant import Tenant

ANSWER_SECONDS = 30
"""Nobody waits longer for an answer, whatever is away: generous, for a machine that is busy with other tests."""

CAUGHT_UP_SECONDS = 30
CHATS = 3
BURST = 8
QUESTION = "What is 12.5 plus 30?"


class Chat(msgspec.Struct):
    """One streamed turn as its client saw it. `is_cut`: the connection broke instead of ending."""

    refusal: Answer | None = None
    events: list[Event] = []
    is_cut: bool = False

    @property
    def has_ended_properly(self) -> bool:
        """Whether the last event is one that may be the last."""
        return bool(self.events) and (self.events[-1].name == "error" or self.events[-1].data.get("final") is True)

    @property
    def is_completed(self) -> bool:
        return self.has_ended_properly and self.events[-1].data.get("status") == "completed"

    @property
    def conversation_id(self) -> str:
        found: str = self.events[0].data["conversation_id"]
        return found

    @property
    def config_hash(self) -> str:
        found: str = self.events[0].data["config_hash"]
        return found

    @property
    def text(self) -> str:
        return "".join(event.data["content"] for event in self.events if event.name == "message")


class Traffic:
    """Of one tenant, with the credentials of its admin. `may_be_cut`: the process behind the port dies meanwhile."""

    def __init__(self, tenant: Tenant, credentials: tuple[str, str], *, may_be_cut: bool = False) -> None:
        self.tenant = tenant
        self.chats: list[Chat] = []
        self.answers: list[Answer] = []
        self._credentials = credentials
        self._may_be_cut = may_be_cut
        self.accepted_hashes: list[str] = []
        """Of the accepted changes, oldest first."""
        self._created: list[str] = []
        self._changes = 0
        self._possible_starters: list[list[str]] = [[]]
        self._is_over = False

    @property
    def served_hashes(self) -> set[str]:
        """Of the configurations that chats ran on."""
        return {chat.config_hash for chat in self.chats if chat.events}

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """As long as the block lasts; everything begun is finished before it ends."""
        async with asyncio.TaskGroup() as group:
            for act, pause_seconds in (
                *[(self.chat, 0.05)] * CHATS,
                (self._log_in, 0.2),
                (self._read, 0.1),
                (self.change, 0.5),
                (self._create, 0.3),
            ):
                group.create_task(self._repeat(act, pause_seconds))
            try:
                yield
            finally:
                self._is_over = True

    async def burst(self) -> None:
        """Many requests at once; returns when the last of them is answered."""
        acts = (self.chat, self._read, self._create)
        await asyncio.gather(self._log_in(), self.change(), *(act() for act in acts for _ in range(BURST)))

    async def until_all_works(self) -> None:
        """Every kind of request succeeds."""
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            for succeeds in (self._chats_well, self._changes_well):
                while not await succeeds():
                    await asyncio.sleep(0.1)

    async def chat(self) -> Chat:
        """One turn in a new conversation, noted like all others."""
        chat = Chat()
        self.chats.append(chat)
        client = self.tenant.client
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                client.session.post(
                    client.base_url + self.tenant.stream_path, json={"message": QUESTION}, headers=client.headers
                ) as response,
            ):
                if response.status != 200:
                    body = json.loads(await client.heard(response))
                    chat.refusal = Answer(response.status, body, dict(response.headers))
                else:
                    async for event in client.events(response):
                        chat.events.append(event)
        except (aiohttp.ClientError, ConnectionError):
            if not self._may_be_cut:
                raise
            chat.is_cut = True
        if chat.refusal is not None:
            assert_in_contract(chat.refusal)
        else:
            assert chat.is_cut or chat.has_ended_properly, chat
        return chat

    async def change(self) -> Answer | None:
        """A new configuration, different from every one before."""
        self._changes += 1
        starters = [f"Question {self._changes}"]
        body = {"config": {"default_llm_config_id": self.tenant.llm_config_id, "conversation_starters": starters}}
        answer = await self._ask(self.tenant.client, "PATCH", f"{self.tenant.path}/config", body)
        if answer is not None and answer.status < 300:
            self._possible_starters = [starters]
            self.accepted_hashes.append(answer.body["config_hash"])
        else:
            # Nobody was told that it is stored, nor that it is not: it may have been on its way.
            self._possible_starters.append(starters)
        return answer

    async def assert_nothing_is_lost(self) -> None:
        """Every conversation that a client saw, and every change that was accepted, is there or comes soon."""
        give_up_at = asyncio.get_running_loop().time() + CAUGHT_UP_SECONDS
        for chat in self.chats:
            while chat.events and not await self._is_stored(chat):
                assert asyncio.get_running_loop().time() < give_up_at, f"never stored: {chat}"
                await asyncio.sleep(0.1)
        assert (await self.tenant.get())["config"].get("conversation_starters", []) in self._possible_starters
        assert set(self._created) <= await self._names_of_llm_configs()

    async def _is_stored(self, chat: Chat) -> bool:
        """What was asked, and at least what was shown of the answer."""
        path = f"{self.tenant.org_path}/conversations/{chat.conversation_id}/messages"
        answer = await self.tenant.client.call("GET", path)
        if answer.status != 200:
            return False
        stored = {m["role"]: m["content"] for m in answer.body["items"]}
        if stored.get("user") != QUESTION:
            return False
        if chat.has_ended_properly:
            return bool(stored.get("assistant", "") == chat.text)
        # Its client left, so to say: the run went on without it.
        return "assistant" in stored and str(stored["assistant"]).startswith(chat.text)

    async def _repeat(self, act: Callable[[], Awaitable[object]], pause_seconds: float) -> None:
        while not self._is_over:
            await act()
            # A person's pace, so that the machine has something left for the stack.
            await asyncio.sleep(pause_seconds)

    async def _chats_well(self) -> bool:
        return (await self.chat()).is_completed

    async def _changes_well(self) -> bool:
        answer = await self.change()
        return answer is not None and answer.status < 300

    async def _log_in(self) -> None:
        username, password = self._credentials
        caller = Client(self.tenant.client.base_url, self.tenant.client.session)
        answer = await self._ask(caller, "POST", "/api/auth/login", {"username": username, "password": password})
        if answer is not None and answer.status < 300:
            caller.token = answer.body["token"]
            await self._ask(caller, "GET", "/api/me")

    async def _read(self) -> None:
        await self._ask(self.tenant.client, "GET", self.tenant.path)

    async def _create(self) -> None:
        name = f"Model {uuid4().hex[:12]}"
        body = {"name": name, "provider": "openai", "api_key": "sk-e2e-made-up-key-5678", "model_name": "demo"}
        answer = await self._ask(self.tenant.client, "POST", f"{self.tenant.org_path}/llm-configs", body)
        if answer is not None and answer.status < 300:
            self._created.append(name)

    async def _ask(self, caller: Client, method: str, path: str, body: Any = None) -> Answer | None:
        """The answer, checked and noted; None when the connection was cut."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await caller.call(method, path, json=body)
        except (aiohttp.ClientError, ConnectionError):
            if not self._may_be_cut:
                raise
            return None
        assert_in_contract(answer)
        self.answers.append(answer)
        return answer

    async def _names_of_llm_configs(self) -> set[str]:
        names: set[str] = set()
        path, cursor = f"{self.tenant.org_path}/llm-configs?limit=200", ""
        while True:
            page = await self.tenant.client.made("GET", path + cursor)
            names |= {config["name"] for config in page["items"]}
            if not page["next_cursor"]:
                return names
            cursor = f"&cursor={page['next_cursor']}"


def assert_in_contract(answer: Answer) -> None:
    """A success, or a problem that says when to come back: nothing else is anybody's due while something is away."""
    if answer.status < 300:
        return
    assert answer.status == 503, answer
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer
    assert answer.body["code"] in ("DB-0001", "SY-0004"), answer
    assert int(answer.headers["Retry-After"]) >= 1, answer
