"""A new conversation is there for its member from its first turn on, at every worker."""

import pytest

from shared.snapshots import OrchestratorSnapshot
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.pairs import Halting, Pair, opening_of, resumed, until
from tests.integration.runtime_worker.worker import Caller, eventually


async def conversations(caller: Caller) -> list[tuple[str, str]]:
    _, page = await caller.call("GET", "/conversations")
    return [(conversation["conversation_id"], conversation["title"]) for conversation in page["items"]]


@pytest.fixture
def late_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end before their new conversation is given a row of its own."""
    monkeypatch.setattr("runtime_worker.turn.listing.LISTED_AFTER_SECONDS", 3600)


async def test_a_conversation_is_listed_while_its_first_turn_runs(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["so far "], ["end"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        conversation = (await opening_of(stream)).data["conversation_id"]
        await eventually(lambda: conversations(pair.there))
        assert await conversations(pair.there) == [(conversation, "go")]
        script.go_on.set()
        assert [event async for event in stream][-1].data["saved"] is True
    assert await conversations(pair.there) == [(conversation, "go")]


@pytest.mark.usefixtures("late_row")
async def test_a_new_conversation_is_there_for_whoever_asks_for_it_however_late_its_row_is(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["so far "], ["end"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        conversation = (await opening_of(stream)).data["conversation_id"]
        assert await conversations(pair.there) == []
        status, renamed = await pair.there.call("PATCH", f"/conversations/{conversation}", json={"title": "mine"})
        assert (status, renamed["title"]) == (200, "mine")
        stranger = await pair.two.sign_in(instance.org_id)
        assert (await stranger.call("GET", f"/conversations/{conversation}"))[0] == 404
        script.go_on.set()
        assert [event async for event in stream][-1].data["saved"] is True
    assert await conversations(pair.there) == [(conversation, "mine")]
    assert (await pair.here.call("DELETE", f"/conversations/{conversation}"))[0] == 204
    assert (await pair.there.call("GET", f"/conversations/{conversation}"))[0] == 404
    assert await conversations(pair.here) == []


@pytest.mark.usefixtures("late_row")
async def test_the_end_of_a_short_run_opens_its_conversation(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    _, answer = await pair.here.chat(instance.instance_id, "hi")
    assert await conversations(pair.there) == [(answer["conversation_id"], "hi")]


@pytest.mark.usefixtures("late_row")
async def test_a_conversation_whose_worker_was_lost_in_its_first_turn_is_listed(
    pair: Pair, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.script = script = Halting(["shown "], ["never"])
    async with pair.here.streaming(instance.instance_id, "go") as stream:
        opening = await opening_of(stream)
        await until(stream, "shown ")
        await pair.lose(opening.data["run_id"], instance.org_id)
        await resumed(pair.there, opening.data["run_id"])
        assert await conversations(pair.there) == [(opening.data["conversation_id"], "go")]
        script.go_on.set()
