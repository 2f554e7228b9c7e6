"""What is true afterwards: of every run that was ever accepted, whoever was told of it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, cast
from uuid import UUID

import aiohttp
import msgspec
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from tests.chaos.model import Question, question_in
from tests.chaos.transcript import Transcript
from tests.e2e.tenant import Tenant

SETTLE_SECONDS = 60.0
"""How long after the last fault something may still be under way."""
AT_ONCE = 8
_OVER = frozenset({"completed", "failed", "cancelled"})


class StoredRun(msgspec.Struct):
    """A run as the store has it: how it began, how it ended, and every answer there is of it."""

    run_id: str
    org_path: str
    conversation_id: str
    question: Question
    status: str = "running"
    error_code: str = ""
    answers: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.answers)


class Verdict(msgspec.Struct):
    runs: int = 0
    by_status: dict[str, int] = {}
    by_error: dict[str, int] = {}
    violations: list[str] = []


async def judge(
    tenants: Sequence[Tenant], transcripts: Sequence[Transcript], mongo_url: str, redis: "Redis", foreign: Iterable[str]
) -> Verdict:
    wrong = [f"a model was shown {marker}, which is of another conversation" for marker in foreign]
    stored, unsettled = await _settled(tenants, mongo_url, redis)
    wrong += unsettled
    by_marker: dict[str, list[StoredRun]] = defaultdict(list)
    for run in stored.values():
        by_marker[run.question.marker].append(run)
        wrong += _of_store(run)
    for marker, runs in by_marker.items():
        if len(runs) > 1:
            wrong.append(f"{marker} ran {len(runs)} times: {', '.join(f'{r.run_id} {r.status}' for r in runs)}")
    for transcript in transcripts:
        runs = by_marker.get(transcript.question.marker, [])
        wrong += _of_client(transcript, runs[0] if runs else None)
    tenant_of = {tenant.org_path: tenant for tenant in tenants}
    shown = {transcript.run_id: transcript for transcript in transcripts if transcript.is_accepted}
    gate = asyncio.Semaphore(AT_ONCE)

    async def look_again(run: StoredRun) -> list[str]:
        async with gate:
            return await _of_api(tenant_of[run.org_path], run, shown.get(run.run_id))

    for found in await asyncio.gather(*(look_again(run) for run in stored.values())):
        wrong += found
    return Verdict(
        runs=len(stored),
        by_status=Counter(run.status for run in stored.values()),
        by_error=Counter(run.error_code for run in stored.values() if run.error_code),
        violations=wrong,
    )


async def _settled(tenants: Sequence[Tenant], mongo_url: str, redis: "Redis") -> tuple[dict[str, StoredRun], list[str]]:
    """Everything that is stored, once nothing is under way any more; and what never ended."""
    give_up_at = asyncio.get_running_loop().time() + SETTLE_SECONDS
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_url, uuidRepresentation="standard")
    async with client:
        while True:
            stored: dict[str, StoredRun] = {}
            for tenant in tenants:
                stored |= await _stored(client, tenant)
            running = [run for run in stored.values() if run.status not in _OVER]
            claims = cast("list[bytes]", await redis.zrange("run_claims", 0, -1))
            if not running and not claims:
                return stored, []
            if asyncio.get_running_loop().time() > give_up_at:
                left = [f"{run.question.marker}: run {run.run_id} is still {run.status}" for run in running]
                return stored, left + [f"somebody still vouches for {claim.decode()}" for claim in claims]
            await asyncio.sleep(0.5)


async def _stored(client: AsyncMongoClient[dict[str, Any]], tenant: Tenant) -> dict[str, StoredRun]:
    database = client[f"cadence_{UUID(tenant.org_id).hex}"]
    found: dict[str, StoredRun] = {}
    async for row in database.messages.find({"starts": {"$exists": True}}):
        run_id = str(row["starts"]["_id"])
        question = question_in(row["content"])
        assert question is not None, row
        found[run_id] = StoredRun(run_id, tenant.org_path, str(row["conversation_id"]), question)
    async for row in database.runs.find({}):
        run = found[str(row["_id"])]
        run.status = row["status"]
        run.error_code = (row["error"] or {}).get("code", "")
    async for row in database.messages.find({"role": "assistant"}):
        run = found[str(row["run_id"])]
        run.answers.append(row["content"])
        # A run that has an answer ended with it.
        run.status = row["ends"]["status"]
        run.error_code = (row["ends"]["error"] or {}).get("code", "")
    return found


def _of_store(run: StoredRun) -> list[str]:
    name, expected = f"{run.question.marker} ({run.status})", run.question.answer
    if len(run.answers) > 1:
        return [f"{name} has {len(run.answers)} answers"]
    if run.status == "completed" and run.text != expected:
        return [f"{name} is stored as {_brief(run.text)}"]
    if not expected.startswith(run.text):
        return [f"{name} is stored with a gap, a repetition or something foreign: {_brief(run.text)}"]
    return []


def _of_client(transcript: Transcript, run: StoredRun | None) -> list[str]:
    marker = f"{transcript.question.marker} [{transcript.kind}]"
    wrong = [f"{marker}: {what}" for what in transcript.wrong]
    is_told = transcript.outcome or transcript.chat_error
    if run is None:
        return [*wrong, f"{marker} was accepted and is not stored"] if transcript.is_accepted or is_told else wrong
    if not is_told:
        return [*wrong, f"{marker} is stored as {run.status}, and its client was told no end ({transcript.refusal})"]
    if transcript.is_accepted and transcript.run_id != run.run_id:
        wrong.append(f"{marker} is stored as another run than its client was told")
    if transcript.chat_error:
        if transcript.chat_error != (run.error_code or "OR-0008"):
            wrong.append(f"{marker} was told {transcript.chat_error} and is stored as {run.status} {run.error_code}")
        return wrong
    if transcript.outcome != run.status:
        told = f"{transcript.outcome} {transcript.last.data.get('code', '') if transcript.last else ''}"
        wrong.append(f"{marker} was told {told} and is stored as {run.status} {run.error_code}")
    if transcript.text != run.text:
        wrong.append(f"{marker} ({run.status}) was shown {_brief(transcript.text)}, and stored is {_brief(run.text)}")
    return wrong


async def _of_api(tenant: Tenant, run: StoredRun, shown: Transcript | None) -> list[str]:
    """What whoever asks now is told, of the run and of all its events once more."""
    name = f"{run.question.marker} ({run.status})"
    client = tenant.client
    answer = await client.call("GET", f"{run.org_path}/runs/{run.run_id}")
    if answer.status != 200 or answer.body["status"] != run.status:
        return [f"{name} cannot be asked for: {answer.status} {answer.body}"]
    messages = await client.call("GET", f"{run.org_path}/conversations/{run.conversation_id}/messages?limit=200")
    if messages.status != 200:
        return [f"{name}: its conversation answers {messages.status} {messages.body}"]
    content = "".join(
        m["content"] for m in messages.body["items"] if m["run_id"] == run.run_id and m["role"] == "assistant"
    )
    wrong = [] if content == run.text else [f"{name}: its conversation shows {_brief(content)}"]
    again = Transcript(run.question, "stream", run.org_path)
    try:
        async with (
            asyncio.timeout(SETTLE_SECONDS),
            client.session.get(
                f"{client.base_url}{run.org_path}/runs/{run.run_id}/stream", headers=client.headers
            ) as response,
        ):
            if response.status != 200:
                return [*wrong, f"{name} cannot be replayed: {response.status} {(await response.read())[:200]!r}"]
            for block in (await response.read()).split(b"\n\n")[:-1]:
                if not block.startswith(b":"):
                    again.add(block + b"\n\n")
    except (aiohttp.ClientError, TimeoutError) as error:
        return [*wrong, f"{name} cannot be replayed: {type(error).__name__}"]
    wrong += [f"{name}, replayed: {what}" for what in again.wrong]
    if again.outcome != run.status:
        wrong.append(f"{name} is replayed as {again.outcome or 'without an end'}")
    if again.text != run.text:
        wrong.append(f"{name} is replayed as {_brief(again.text)}, and stored is {_brief(run.text)}")
    if shown is not None and shown.events and [e.raw for e in shown.events] != [e.raw for e in again.events]:
        wrong.append(f"{name} is replayed otherwise than it was shown: {_difference(shown, again)}")
    return wrong


def _difference(shown: Transcript, again: Transcript) -> str:
    for one, other in zip(shown.events, again.events, strict=False):
        if one.raw != other.raw:
            return f"{one.raw!r} and then {other.raw!r}"
    return f"{len(shown.events)} events and then {len(again.events)}"


def _brief(text: str) -> str:
    words = text.split()
    return repr(text) if len(words) < 4 else f"'{words[0]} {words[1]} … {words[-1]}' ({len(words)} words)"
