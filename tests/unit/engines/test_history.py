from runtime_worker.engines.modes.history import spoken, well_formed
from runtime_worker.models.base import ModelMessage, ModelToolCall

USER = ModelMessage("user", "2+3?")
CALL = ModelMessage("assistant", "", (ModelToolCall("c1", "add", "{}"),))
RESULT = ModelMessage("tool", "5", tool_call_id="c1")
ANSWER = ModelMessage("assistant", "five")


def test_a_whole_exchange_stays() -> None:
    assert well_formed([USER, CALL, RESULT, ANSWER]) == [USER, CALL, RESULT, ANSWER]


def test_a_result_whose_call_was_cut_off_goes() -> None:
    assert well_formed([RESULT, ANSWER, USER]) == [ANSWER, USER]


def test_a_call_whose_result_is_missing_goes() -> None:
    assert well_formed([USER, CALL, ANSWER]) == [USER, ANSWER]
    assert well_formed([USER, CALL]) == [USER]


def test_words_beside_a_broken_call_stay() -> None:
    said = ModelMessage("assistant", "let me see", CALL.tool_calls)
    assert well_formed([USER, said]) == [USER, ModelMessage("assistant", "let me see")]


def test_an_id_that_comes_again_is_told_apart_with_its_result() -> None:
    again = ModelMessage("tool", "7", tool_call_id="c1")
    kept = well_formed([USER, CALL, RESULT, ANSWER, USER, CALL, again])
    calls = [call.id for message in kept for call in message.tool_calls]
    assert len(set(calls)) == 2
    results = {message.tool_call_id: message.content for message in kept if message.role == "tool"}
    assert results == dict(zip(calls, ("5", "7"), strict=True))


def test_what_was_said_leaves_tools_out() -> None:
    assert spoken([USER, CALL, RESULT, ANSWER]) == [USER, ANSWER]
