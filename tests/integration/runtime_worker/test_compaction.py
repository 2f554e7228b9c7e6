"""A conversation that outgrows its window: a model summarises what is older, nothing of it is lost, and the turn goes
on whatever happens meanwhile. Engine, model client and MongoDB are the real ones."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.ids import new_id
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.model_call import ModelCall
from tests.fakes.model_server import ModelServer, system_has
from tests.fakes.model_steps import Gate, Step, usage_of
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually, running_worker

SUMMARISES, DECIDES, CONVERSES = "Summarise the conversation", "You decide the next step", "from the conversation alone"
LONG = "My name is Ada. " + "x" * 900
"""230 tokens as they are estimated: two of its kind are more than the smallest window of 256."""


class Thread:
    """One conversation of a member with the instance."""

    def __init__(
        self, worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, model: ModelServer
    ) -> None:
        self.worker = worker
        self.member = member
        self.instance = instance
        self.model = model
        self.conversation_id: str | None = None

    async def say(self, message: str, answer: str, **options: Any) -> dict[str, Any]:
        """One turn; what the worker answered."""
        self.model.answer(answer, when=system_has(CONVERSES), **options)
        return await self.send(message)

    async def send(self, message: str) -> dict[str, Any]:
        known = {"conversation_id": self.conversation_id} if self.conversation_id else {}
        status, answered = await self.member.chat(self.instance.instance_id, message, **known)
        assert status == 200, answered
        self.conversation_id = answered["conversation_id"]
        return dict(answered)

    def summarises(self, text: str, **options: Any) -> Step:
        return self.model.answer(text, when=system_has(SUMMARISES), **options)

    async def messages(self) -> list[tuple[str, str, bool]]:
        """Role, content and whether it is compacted, of every message there is."""
        _, page = await self.member.call("GET", f"/conversations/{self.conversation_id}/messages")
        return [(m["role"], m["content"], m["is_compacted"]) for m in page["items"]]

    async def reconfigure(self, **config: Any) -> None:
        """Let the worker serve the same instance with another configuration."""
        (llm_config,) = self.instance.llm_configs.values()
        other = instance_snapshot(llm_config, org_id=self.instance.org_id, **config)
        hashed = other.config_hash
        self.worker.control_plane.put(self.instance, config=other.config, config_hash=hashed)
        self.worker.worker.reconciler.poke()
        entry = await self.worker.worker.pool.require(self.instance.instance_id, self.instance.org_id)
        await eventually(lambda: entry.current is None or entry.current.snapshot.config_hash == hashed)

    def seen(self) -> list[str]:
        """What the answering model got to see last, without its instructions."""
        call = [call for call in self.model.calls if CONVERSES in call.system][-1]
        return [str(message["content"]) for message in call.messages if message["role"] != "system"]

    def summarising(self) -> list[ModelCall]:
        return [call for call in self.model.calls if SUMMARISES in call.system]


@pytest.fixture
def mode_config() -> dict[str, Any]:
    return {"max_context_window": 256, "message_context_window": 6}


@pytest.fixture
async def thread(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    model_server: ModelServer,
    mode_config: dict[str, Any],
) -> AsyncIterator[Thread]:
    snapshot = instance_snapshot(llm_config_snapshot(model_server.base_url), org_id=new_id(), mode_config=mode_config)
    instance = control_plane.put(snapshot, tier="demand")
    model_server.tools(("conversational", {}), when=system_has(DECIDES), times=None)
    async with running_worker(settings, control_plane, None) as worker:
        yield Thread(worker, await worker.sign_in(instance.org_id), instance, model_server)


async def outgrown(thread: Thread) -> None:
    """Two turns that are more than the window together, the second short enough to be kept word for word."""
    await thread.say(LONG, "Hello Ada.")
    await thread.say("I like the sea. " * 4, "So do I.")
    assert thread.summarising() == []


async def test_older_messages_are_summarised_once_and_the_newest_kept_word_for_word(thread: Thread) -> None:
    await outgrown(thread)
    thread.summarises("The user is called Ada.", usage=usage_of(100, 7))
    answered = await thread.say("Who am I?", "You are Ada.")

    (told, sea, so_do_i, question) = thread.seen()
    assert "The user is called Ada." in told
    assert "x" * 100 not in told
    assert (sea, so_do_i, question) == ("I like the sea. " * 4, "So do I.", "Who am I?")
    (call,) = thread.summarising()
    assert LONG in call.last_user
    assert "I like the sea" not in call.last_user
    assert answered["usage"]["input_tokens"] == 100 + 10 + 10, "the summary is paid for by the turn that needed it"

    await thread.say("Thanks", "Gladly.")
    assert len(thread.summarising()) == 1
    assert "The user is called Ada." in thread.seen()[0]


async def test_nothing_is_deleted_and_everybody_who_reads_the_conversation_sees_what_was_compacted(
    thread: Thread,
) -> None:
    await outgrown(thread)
    thread.summarises("The user is called Ada.")
    await thread.say("Who am I?", "You are Ada.")
    assert await thread.messages() == [
        ("user", LONG, True),
        ("assistant", "Hello Ada.", True),
        ("user", "I like the sea. " * 4, False),
        ("assistant", "So do I.", False),
        ("user", "Who am I?", False),
        ("summary", "The user is called Ada.", False),
        ("assistant", "You are Ada.", False),
    ]


async def test_a_second_compaction_builds_on_the_first(thread: Thread) -> None:
    await outgrown(thread)
    thread.summarises("FIRST SUMMARY: Ada.")
    await thread.say("Tell me more. " + "y" * 900, "There is no more.")
    thread.summarises("SECOND SUMMARY: Ada likes the sea.")
    await thread.say("Who am I?", "You are Ada.")

    second = thread.summarising()[1].last_user
    assert "FIRST SUMMARY" in second
    assert "I like the sea" in second
    assert LONG not in second, "what the first summary tells is not read again"
    assert "SECOND SUMMARY" in thread.seen()[0]
    assert "FIRST SUMMARY" not in "".join(thread.seen())
    summaries = [(content, compacted) for role, content, compacted in await thread.messages() if role == "summary"]
    assert summaries == [("FIRST SUMMARY: Ada.", True), ("SECOND SUMMARY: Ada likes the sea.", False)]


async def test_a_turn_goes_on_with_what_fits_when_the_summary_cannot_be_written(thread: Thread) -> None:
    await outgrown(thread)
    thread.model.fail(400, when=system_has(SUMMARISES))
    await thread.say("Who am I?", "I do not know.")
    assert thread.seen() == ["Hello Ada.", "I like the sea. " * 4, "So do I.", "Who am I?"]
    assert [compacted for _, _, compacted in await thread.messages()] == [False] * 6

    thread.summarises("The user is called Ada.")
    await thread.say("And now?", "You are Ada.")
    assert "The user is called Ada." in thread.seen()[0], "the next turn tries again"


@pytest.mark.parametrize("mode_config", [{"max_context_window": 256, "message_context_window": 6}])
async def test_a_long_past_is_summarised_step_by_step_and_a_failing_step_keeps_the_ones_before(
    thread: Thread, mode_config: dict[str, Any]
) -> None:
    off = {**mode_config, "enabled_auto_compact": False}
    await thread.reconfigure(mode_config=off)
    for number in range(4):
        await thread.say(f"{number}: " + "z" * 900, "Noted.")
    await thread.reconfigure(mode_config=mode_config)
    thread.summarises("STEP ONE")
    thread.model.fail(400, when=system_has(SUMMARISES))
    await thread.say("Well?", "Well.")

    one, two = thread.summarising()
    assert ("0: z" in one.last_user, "3: z" in one.last_user) == (True, False)
    assert ("STEP ONE" in two.last_user, "3: z" in two.last_user) == (True, True)
    assert "STEP ONE" in thread.seen()[0]
    flags = [compacted for _, _, compacted in await thread.messages()]
    assert flags == sorted(flags, reverse=True), "what was summarised is at the beginning"
    assert 0 < flags.count(True) < 8


async def test_an_empty_summary_replaces_nothing(thread: Thread) -> None:
    await outgrown(thread)
    thread.summarises(" ")
    await thread.say("Who am I?", "I do not know.")
    assert not any(compacted for _, _, compacted in await thread.messages())


async def test_whoever_follows_the_stream_sees_that_the_conversation_is_being_compacted(thread: Thread) -> None:
    await outgrown(thread)
    thread.summarises("The user is called Ada.")
    thread.model.answer("You are Ada.", when=system_has(CONVERSES))
    known = {"conversation_id": thread.conversation_id}
    events = await thread.member.stream(thread.instance.instance_id, "Who am I?", **known)
    assert [(e.name, e.data.get("node")) for e in events[:4]] == [
        ("metadata", None),
        ("agent_start", "autocompact"),
        ("agent_end", "autocompact"),
        ("agent_start", "supervisor_node"),
    ]


async def test_cancelling_while_a_summary_is_written_ends_the_call_and_changes_nothing(thread: Thread) -> None:
    await outgrown(thread)
    thread.model.step(Gate(), when=system_has(SUMMARISES))
    known = {"conversation_id": thread.conversation_id}
    async with thread.member.streaming(thread.instance.instance_id, "Who am I?", **known) as stream:
        opening = await stream.next()
        assert opening is not None
        await stream.next()
        (call,) = [c for c in await thread.model.wait_for_calls(5) if SUMMARISES in c.system]
        await thread.member.call("POST", f"/runs/{opening.data['run_id']}/cancel")
        rest = [event async for event in stream]
    assert [event.name for event in rest] == ["agent_end", "metadata"]
    assert rest[-1].data["status"] == "cancelled"
    await call.hung_up.wait()
    assert not any(compacted or role == "summary" for role, _, compacted in await thread.messages())


@pytest.mark.parametrize("mode_config", [{"max_context_window": 256, "enabled_auto_compact": False}])
async def test_compaction_can_be_switched_off(thread: Thread) -> None:
    await outgrown(thread)
    await thread.say("Who am I?", "I do not know.")
    assert thread.summarising() == []
    assert LONG not in thread.seen()


@pytest.mark.parametrize("mode_config", [{"max_context_window": 256, "message_context_window": 1}])
async def test_what_has_left_the_window_of_messages_is_summarised_too(thread: Thread) -> None:
    await thread.say(LONG, "Hello Ada.")
    await thread.say("I like the sea. " * 4, "So do I.")
    assert thread.seen()[:-1] == ["Hello Ada."]
    thread.summarises("Ada likes the sea.")
    await thread.say("Who am I?", "You are Ada.")
    (call,) = thread.summarising()
    assert LONG in call.last_user
    assert "Ada likes the sea." in thread.seen()[0]


@pytest.mark.parametrize(
    "mode_config",
    [{"max_context_window": 256, "autocompact": {"prompt_override": "Write it down in Latin.", "temperature": 0}}],
)
async def test_the_autocompact_node_has_a_prompt_and_parameters_of_its_own(thread: Thread) -> None:
    await outgrown(thread)
    thread.model.answer("Ada appellatur.", when=system_has("Latin"))
    await thread.say("Who am I?", "You are Ada.")
    (call,) = [call for call in thread.model.calls if "Latin" in call.system]
    assert call.body["temperature"] == 0
    assert "Ada appellatur." in thread.seen()[0]


async def test_a_summary_is_nobody_elses(thread: Thread) -> None:
    await outgrown(thread)
    thread.summarises("canary-summary")
    await thread.say("Who am I?", "You are Ada.")
    assert any(content == "canary-summary" for _, content, _ in await thread.messages())

    elsewhere = Thread(thread.worker, thread.member, thread.instance, thread.model)
    await elsewhere.say("Who am I?", "I do not know.")
    assert elsewhere.seen() == ["Who am I?"], "not even in another conversation of the same user"
    path = f"/conversations/{thread.conversation_id}/messages"
    for org_id in (thread.instance.org_id, new_id()):
        other = await thread.worker.sign_in(org_id)
        assert (await other.call("GET", path))[0] == 404
