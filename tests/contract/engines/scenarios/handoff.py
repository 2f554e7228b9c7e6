"""What only a handoff does: passing the conversation on, refusing what leads nowhere, and remembering who has it."""

from collections.abc import Iterator, Sequence

from runtime_worker.engines.modes.handoff import NO_SUCH_AGENT, ONE_AT_A_TIME, TO_ITSELF, TRANSFERRED
from tests.contract.engines.bundles import CALC, WORDS, add, calc, words
from tests.contract.engines.catalogue import in_mode
from tests.contract.engines.moves import calls, says, sends
from tests.contract.engines.scenario import WHOAMI, Played, Scenario
from tests.contract.engines.story import visit, wrote
from tests.contract.engines.walk import Path, Round, Use
from tests.contract.engines.walks.handoff import HandoffWalk, transfers
from tests.fakes.model_steps import Text, ToolCalls
from tests.fakes.plugin_bundle import FunctionBundle

WALK = HandoffWalk()
LISTS = "com.acme.lists"
ADDED = Round([Use("add", {"a": 2, "b": 3}, 5)])
RAISED = Round([Use("upper", {"text": "five"}, "FIVE", plugin=WORDS)])


def two() -> Sequence[FunctionBundle]:
    return calc(), words()


def three() -> Sequence[FunctionBundle]:
    return calc(), words(), FunctionBundle(LISTS, add)


@in_mode(WALK)
def the_conversation_is_handed_over(walk: HandoffWalk) -> Scenario:
    def check(played: Played) -> None:
        calculating, wording = played.calls[0], played.calls[2]
        assert set(calculating.tool_names) >= {"add", "divide"}
        assert "upper" not in calculating.tool_names
        assert "add" not in wording.tool_names
        assert "5" in wording.tool_results
        assert "Please do it." in str(wording.messages)
        for name, call in (("words", calculating), ("calc", wording)):
            assert f'<colleague name="{name}">' in call.system
            assert WHOAMI in call.system

    way = walk.handed_over(Path(), CALC, "words", ADDED)
    return walk.scenario(walk.taken(way, WORDS, RAISED, answer=says("FIVE")), plugins=two, check=check)


@in_mode(WALK)
def the_conversation_goes_on_and_back(walk: HandoffWalk) -> Scenario:
    way = walk.handed_over(Path(), CALC, "words")
    way = walk.handed_over(way, WORDS, "lists")
    way = walk.handed_over(way, LISTS, "calc")
    return walk.scenario(walk.taken(way, CALC, answer=says("Done.")), plugins=three)


@in_mode(WALK)
def the_entry_agent_takes_the_first_turn(walk: HandoffWalk) -> Iterator[Scenario]:
    path = walk.taken(Path(), WORDS, answer=says("Hi"))
    yield walk.scenario(path, plugins=two, mode_config={"entry_agent": WORDS})
    first = walk.taken(Path(), CALC, answer=says("Hi"))
    yield walk.scenario(first, "or_the_first_plugin", plugins=two)


@in_mode(WALK)
def the_next_turn_starts_with_the_agent_that_answered_last(walk: HandoffWalk) -> Iterator[Scenario]:
    path = walk.taken(Path(), WORDS, answer=says("Hi again"))
    yield walk.scenario(path, plugins=two, last_agent=WORDS, mode_config={"entry_agent": CALC})
    gone = walk.taken(Path(), CALC, answer=says("Hi"))
    yield walk.scenario(gone, "unless_it_is_gone", plugins=two, last_agent="com.acme.gone")


@in_mode(WALK)
def a_transfer_that_leads_nowhere_is_refused_back_to_the_model(walk: HandoffWalk) -> Iterator[Scenario]:
    for name, wanted, told in (("to_itself", "calc", TO_ITSELF), ("to_nobody", "nobody", NO_SUCH_AGENT)):

        def check(played: Played, told: str = told) -> None:
            assert played.calls[1].tool_results == [told]

        path = walk.taken(Path([transfers(wanted)]), CALC, answer=says("Then I do it."))
        yield walk.scenario(path, name, plugins=two, check=check)


@in_mode(WALK)
def transfers_have_a_limit_and_then_the_current_agent_answers(walk: HandoffWalk) -> Iterator[Scenario]:
    limit = {"max_agent_hops": 1}
    way = walk.handed_over(Path(), CALC, "words")

    def check_told(played: Played) -> None:
        assert "No transfer is possible any more" in played.calls[1].system

    within = walk.taken(way, WORDS, answer=says("I answer."))
    yield walk.scenario(within, "told", plugins=two, mode_config=limit, check=check_told)

    def check_refused(played: Played) -> None:
        assert any("answer yourself" in result for result in played.calls[2].tool_results)
        assert played.calls[2].asked["tool_choice"] == "none"

    beyond = walk.taken(way.then(transfers("calc")), WORDS, answer=says("Then I answer."))
    yield walk.scenario(beyond, "refused", plugins=two, mode_config=limit, check=check_refused)


@in_mode(WALK)
def the_conversation_goes_to_one_agent_only(walk: HandoffWalk) -> Scenario:
    def check(played: Played) -> None:
        assert played.calls[1].tool_results == [TRANSFERRED, ONE_AT_A_TIME]

    way = Path([transfers("words", "lists")], visit("agent_node", agent=CALC), 1)
    return walk.scenario(walk.taken(way, WORDS, answer=says("Hi")), plugins=three, check=check)


@in_mode(WALK)
def tools_beside_a_transfer_are_run_before_it(walk: HandoffWalk) -> Scenario:
    both = calls(("add", {"a": 2, "b": 3}), ("transfer_to_words", {}))

    def check(played: Played) -> None:
        assert "5" in played.calls[1].tool_results

    way = Path([both], visit("agent_node", ADDED.story(), agent=CALC), 1)
    return walk.scenario(walk.taken(way, WORDS, answer=says("FIVE")), plugins=two, check=check)


@in_mode(WALK)
def who_has_begun_to_answer_does_not_hand_over(walk: HandoffWalk) -> Scenario:
    """One agent alone writes what a user reads."""
    begun = sends(Text("I begin"), ToolCalls([("transfer_to_words", {})]), shows="I begin")
    answer = "I begin\n\nand end."
    path = Path([begun, says("and end.")], visit("agent_node", wrote(answer, "agent_node"), agent=CALC), 0, CALC)

    def check(played: Played) -> None:
        assert "finish the answer yourself" in played.calls[1].tool_results[0]

    return walk.scenario(path, plugins=two, check=check)


@in_mode(WALK)
def what_is_said_beside_a_tool_call_is_a_paragraph_of_the_answer(walk: HandoffWalk) -> Scenario:
    begun = sends(Text("Let me see."), ToolCalls([("add", {"a": 2, "b": 3})]), shows="Let me see.")
    told = [wrote("Let me see.", "agent_node"), ADDED.story(), wrote("\n\nIt is 5.", "agent_node")]
    path = Path([begun, says("It is 5.")], visit("agent_node", *told, agent=CALC), 0, CALC)

    def check(played: Played) -> None:
        assert played.result is not None
        assert all(not m.content for m in played.result.tool_messages if m.role == "assistant")

    return walk.scenario(path, check=check)


@in_mode(WALK)
def instructions_are_told_to_every_agent(walk: HandoffWalk) -> Scenario:
    def check(played: Played) -> None:
        for call in played.calls:
            assert "Pass on what is not yours." in call.system

    way = walk.handed_over(Path(), CALC, "words")
    path = walk.taken(way, WORDS, answer=says("Hi"))
    config = {"handoff_instructions": "Pass on what is not yours."}
    return walk.scenario(path, plugins=two, mode_config=config, check=check)


@in_mode(WALK)
def one_agent_alone_has_nobody_to_hand_over_to(walk: HandoffWalk) -> Scenario:
    def check(played: Played) -> None:
        assert not [name for name in played.calls[0].tool_names if name.startswith("transfer")]

    return walk.scenario(walk.turn(answer=says("Hi")), check=check)


@in_mode(WALK)
def tools_that_share_a_name_are_reported_by_plugin(walk: HandoffWalk) -> Scenario:
    mine = Round([Use("lists__add", {"a": 1, "b": 2}, 3, plugin=LISTS, tool="add")])

    def check(played: Played) -> None:
        assert played.bundles[0].calls == []

    path = walk.taken(Path(), LISTS, mine, answer=says("3"))
    return walk.scenario(path, plugins=three, mode_config={"entry_agent": LISTS}, check=check)


@in_mode(WALK)
def an_agent_that_fails_after_a_transfer_keeps_the_conversation(walk: HandoffWalk) -> Scenario:
    way = walk.handed_over(Path(), CALC, "words")
    path = walk.failed_at(way, WORDS, apology=says("Sorry."))
    return walk.scenario(path, plugins=two, error_code="LL-0004")
