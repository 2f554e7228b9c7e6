"""People who talk to the orchestrators all the time, and bear what a client has to bear: a refusal is tried again, a
connection that breaks is taken up where it broke, with the same key or behind the last event.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

import aiohttp
import msgspec

from tests.chaos.model import Question
from tests.chaos.transcript import Kind, Transcript
from tests.e2e.tenant import Tenant

RUN_SECONDS = 120.0
"""Nothing may take longer than this, whatever happens; what does hangs."""
RETRY_SECONDS = 0.4
SILENCE_SECONDS = 40.0
"""Longer than any pause of a stream whose worker, or the one that takes over, lives: a comment comes every 15 s."""
TURNS = 4
WORDS = (4, 60)
_KINDS: dict[Kind, int] = {"stream": 6, "stream, dropped": 2, "stream, cancelled": 1, "chat": 2}
_TRY_AGAIN = frozenset({409, 429, 502, 503, 504})
_ENDS = frozenset({"OR-0005", "OR-0006", "OR-0007", "OR-0008"})
"""Codes that tell how a run ended rather than that none began."""


class Broken(Exception):
    """The connection broke, or was told to go elsewhere."""


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""


class Traffic:
    """`transcripts` are of every turn that was ever begun."""

    def __init__(self, tenants: Sequence[Tenant], seed: int, *, max_runs: int) -> None:
        self.tenants = tenants
        self.transcripts: list[Transcript] = []
        self.statuses: Counter[str] = Counter()
        self._seed = seed
        self._max_runs = max_runs
        self._is_over = False

    @property
    def accepted(self) -> int:
        return sum(transcript.is_accepted for transcript in self.transcripts)

    @property
    def ended(self) -> int:
        return sum(bool(transcript.outcome or transcript.chat_error) for transcript in self.transcripts)

    @property
    def is_enough(self) -> bool:
        return self._is_over or len(self.transcripts) >= self._max_runs

    def end(self) -> None:
        """Begin nothing more; what is going on is finished."""
        self._is_over = True

    async def client(self, number: int) -> None:
        """One person: conversations one after the other."""
        chance = random.Random(f"client-{self._seed}-{number}")
        conversation = 0
        await asyncio.sleep(chance.random() * 2)
        while not self.is_enough:
            which = chance.randrange(len(self.tenants))
            conversation += 1
            conversation_id = ""
            for turn in range(TURNS):
                question = Question(
                    f"t{which}-c{number * 10_000 + conversation}-{turn}",
                    chance.randint(*WORDS),
                    uses_tool=chance.random() < 0.2,
                )
                (kind,) = chance.choices(list(_KINDS), list(_KINDS.values()))
                transcript = Transcript(question, kind, self.tenants[which].org_path)
                self.transcripts.append(transcript)
                await self._turn(self.tenants[which], transcript, conversation_id, chance)
                conversation_id = transcript.conversation_id or conversation_id
                if not conversation_id:
                    break
                await asyncio.sleep(chance.random() * 0.3)

    async def _turn(self, tenant: Tenant, transcript: Transcript, conversation_id: str, chance: random.Random) -> None:
        try:
            async with asyncio.timeout(RUN_SECONDS):
                if transcript.kind == "chat":
                    await self._chat(tenant, transcript, conversation_id)
                else:
                    await self._stream(tenant, transcript, conversation_id, chance)
        except TimeoutError:
            if transcript.is_accepted or transcript.kind == "chat":
                transcript.wrong.append("hangs")
            else:
                transcript.refusal = transcript.refusal or "no answer"

    # --- streams ---

    async def _stream(
        self, tenant: Tenant, transcript: Transcript, conversation_id: str, chance: random.Random
    ) -> None:
        leave_at = chance.randint(2, 25) if transcript.kind != "stream" else None
        while True:
            try:
                if await self._listen(tenant, transcript, conversation_id, leave_at):
                    return
            except (aiohttp.ClientError, ConnectionError, Broken):
                transcript.resumes += transcript.is_accepted
            leave_at = None
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, tenant: Tenant, transcript: Transcript, conversation_id: str, leave_at: int | None) -> bool:
        """Over one connection; True when there is nothing more to come, or no run at all."""
        client = tenant.client
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS)
        if transcript.is_accepted:
            headers = {**client.headers, "Last-Event-ID": f"{transcript.run_id}:{transcript.last_seq}"}
            url = f"{client.base_url}{tenant.org_path}/runs/{transcript.run_id}/stream"
            opened = client.session.get(url, headers=headers, timeout=timeout)
        else:
            headers = {**client.headers, "Idempotency-Key": transcript.question.marker}
            url, body = client.base_url + tenant.stream_path, _body(transcript, conversation_id)
            opened = client.session.post(url, json=body, headers=headers, timeout=timeout)
        async with opened as response:
            if response.status != 200:
                return await self._refused(transcript, response)
            held = b""
            async for chunk in response.content.iter_any():
                *blocks, held = (held + chunk).split(b"\n\n")
                for block in blocks:
                    if block.startswith(b":"):
                        continue
                    event = transcript.add(block + b"\n\n")
                    if event is None:
                        self.statuses["the gateway gave up"] += 1
                        raise Broken
                    if event.is_last:
                        if transcript.cancelled_at is not None:
                            transcript.cancel_seconds = time.monotonic() - transcript.cancelled_at
                        return True
                    if leave_at is not None and event.seq >= leave_at:
                        leave_at = None
                        if transcript.kind == "stream, dropped":
                            raise Broken
                        await self._cancel(tenant, transcript)
            transcript.wrong.append(
                f"the stream ended properly behind event {transcript.last_seq}, which is no last one"
            )
            raise Broken

    async def _cancel(self, tenant: Tenant, transcript: Transcript) -> None:
        try:
            answer = await tenant.client.call("POST", f"{tenant.org_path}/runs/{transcript.run_id}/cancel")
        except (aiohttp.ClientError, ConnectionError):
            return
        if answer.status == 202:
            transcript.cancelled_at = time.monotonic()

    # --- whole answers ---

    async def _chat(self, tenant: Tenant, transcript: Transcript, conversation_id: str) -> None:
        client = tenant.client
        url = f"{client.base_url}{tenant.path}/completion/chat"
        headers = {**client.headers, "Idempotency-Key": transcript.question.marker}
        while True:
            try:
                async with client.session.post(
                    url, json=_body(transcript, conversation_id), headers=headers
                ) as response:
                    if response.status == 200:
                        answer = await response.json()
                        transcript.run_id = answer["run_id"]
                        transcript.conversation_id = answer["conversation_id"]
                        transcript.chat_text = answer["response"]
                        return
                    if await self._refused(transcript, response):
                        return
            except (aiohttp.ClientError, ConnectionError):
                transcript.resumes += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def _refused(self, transcript: Transcript, response: aiohttp.ClientResponse) -> bool:
        """True when asking again is of no use."""
        raw = await response.read()
        try:
            problem = msgspec.json.decode(raw, type=_Problem)
        except msgspec.MsgspecError:
            problem = _Problem(detail=raw[:100].decode(errors="replace"))
        self.statuses[f"{response.status} {problem.code}"] += 1
        if transcript.kind == "chat" and problem.code in _ENDS:
            transcript.chat_error = problem.code
            return True
        if response.status in _TRY_AGAIN:
            transcript.refusal = f"{response.status} {problem.code} {problem.detail}"
            return False
        transcript.refusal = f"{response.status} {problem.code} {problem.detail}"
        transcript.wrong.append(f"answered with {transcript.refusal}")
        return True


def _body(transcript: Transcript, conversation_id: str) -> dict[str, str]:
    body = {"message": transcript.question.message}
    return body | {"conversation_id": conversation_id} if conversation_id else body
