"""What a turn knows of its conversation, also when other turns of it end while it begins."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from runtime_worker.conversations.base import ConversationStore, Message, Thread
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.pairs import Pair


class Readings:
    """How often a store reads threads, and how often messages by themselves. `meanwhile` happens after the first
    thread is read, before anybody has it."""

    def __init__(self, store: ConversationStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self.of_messages = 0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._find, self._newest = store.find_thread, store.newest_messages
        monkeypatch.setattr(store, "find_thread", self._find_thread)
        monkeypatch.setattr(store, "newest_messages", self._newest_messages)

    async def _newest_messages(self, *arguments: Any, **options: Any) -> Sequence[Message]:
        self.of_messages += 1
        return await self._newest(*arguments, **options)

    async def _find_thread(self, org_id: UUID, conversation_id: UUID, *, user_id: UUID, window: int) -> Thread | None:
        self.count += 1
        found = await self._find(org_id, conversation_id, user_id=user_id, window=window)
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            await happen()
        return found


@pytest.fixture
async def begun(pair: Pair, instance: OrchestratorSnapshot) -> str:
    """A conversation of two turns, one by each worker."""
    _, first = await pair.here.chat(instance.instance_id, "one")
    conversation = str(first["conversation_id"])
    await pair.there.chat(instance.instance_id, "two", conversation_id=conversation)
    return conversation


@pytest.fixture
def readings(pair: Pair, begun: str, monkeypatch: pytest.MonkeyPatch) -> Readings:
    """Of the second worker, where the instance is built."""
    return Readings(pair.two.worker.store, monkeypatch)


async def test_a_conversation_is_read_once_for_a_turn(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder, begun: str, readings: Readings
) -> None:
    for message in ("three", "four"):
        assert (await pair.there.chat(instance.instance_id, message, conversation_id=begun))[0] == 200
    assert (readings.count, readings.of_messages) == (2, 0)
    assert [told.content for told in builder.requests[-1].history] == [
        "You said: one",
        "two",
        "You said: two",
        "three",
        "You said: three",
    ]


async def test_a_turn_knows_what_ended_elsewhere_after_it_had_read(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder, begun: str, readings: Readings
) -> None:
    readings.meanwhile = lambda: pair.here.chat(instance.instance_id, "three", conversation_id=begun)
    await pair.there.chat(instance.instance_id, "four", conversation_id=begun)
    assert [told.content for told in builder.requests[-1].history][-2:] == ["three", "You said: three"]
    assert readings.count == 2


async def test_a_conversation_that_is_deleted_after_it_was_read_is_not_gone_on_with(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder, begun: str, readings: Readings
) -> None:
    readings.meanwhile = lambda: pair.here.call("DELETE", f"/conversations/{begun}")
    status, problem = await pair.there.chat(instance.instance_id, "three", conversation_id=begun)
    assert (status, problem["detail"]) == (404, "no such conversation")
    assert [request.message for request in builder.requests] == ["one", "two"]
    assert (
        await pair.one.worker.store.newest_messages(instance.org_id, UUID(begun), limit=10, before=UUID(int=2**128 - 1))
        == []
    )
    assert await pair.one.worker.redis.keys(f"run_lock:{instance.org_id}:*") == []


async def test_a_stranger_neither_goes_on_with_a_conversation_nor_keeps_its_owner_from_it(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder, control_plane: FakeControlPlane, begun: str
) -> None:
    theirs = control_plane.put(instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id()))
    redis = pair.two.worker.redis
    ended = await redis.get(f"run_ended:{instance.org_id}:{begun}")
    assert ended is not None
    for snapshot in (instance, theirs):
        stranger = await pair.two.sign_in(snapshot.org_id)
        for conversation in (begun, str(new_id())):
            status, problem = await stranger.chat(snapshot.instance_id, "mine?", conversation_id=conversation)
            assert (status, problem["detail"]) == (404, "no such conversation")
    # Whoever had the lock would have left another id.
    assert await redis.keys(f"run_ended:*:{begun}") == [f"run_ended:{instance.org_id}:{begun}".encode()]
    assert await redis.get(f"run_ended:{instance.org_id}:{begun}") == ended
    assert [request.message for request in builder.requests] == ["one", "two"]


async def test_a_worker_that_stood_still_after_it_had_read_reads_again(
    pair: Pair,
    instance: OrchestratorSnapshot,
    begun: str,
    readings: Readings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However short it stood still: nobody would know any more which turns ended meanwhile.
    monkeypatch.setattr("runtime_worker.turn.threads.ENDED_SECONDS", 0)
    await pair.there.chat(instance.instance_id, "three", conversation_id=begun)
    assert readings.count == 2
