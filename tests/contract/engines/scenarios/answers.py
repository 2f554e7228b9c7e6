"""Answers: how they are streamed, what is counted, and what of the configuration reaches the model."""

from collections.abc import Iterator

from runtime_worker.models.base import ModelMessage, ModelToolCall
from shared.prompts import DEFAULT_PROMPTS
from tests.contract.engines.catalogue import in_every_mode
from tests.contract.engines.moves import says, sends
from tests.contract.engines.scenario import OTHER_API_KEY, OTHER_LLM_CONFIG_ID, OTHER_MODEL, WHOAMI, Played, Scenario
from tests.contract.engines.walk import Round, Use, Walk
from tests.fakes.model_steps import CutText, Text, usage_of

ADDED = Round([Use("add", {"a": 2, "b": 3}, 5)])


@in_every_mode
def plain_answer(walk: Walk) -> Scenario:
    return walk.scenario(walk.turn(answer=says("Hi", " there")), asks="hello")


@in_every_mode
def every_kind_of_text(walk: Walk) -> Iterator[Scenario]:
    texts = {
        "unicode": ("Grüße, ", "日本語 ", "שלום ", "e\u0301"),
        "emoji": ("👩‍👩‍👧", "🏳️‍🌈 ", "done"),
        "line_ends": ("one\n", "\r\ntwo\u2028three\n\n", "data: four\n\n"),
        "braces": ("{whoami} {{whoami}} ", "%s {0} \\"),
        "empty_chunks": ("", "Hi", "", "", " there", ""),
        "one_character_each": tuple("one by one"),
        "whitespace": (" ", "\n", "x", " "),
        "100_kilobytes": ("0123456789" * 100,) * 100,
    }
    for name, chunks in texts.items():
        yield walk.scenario(walk.turn(answer=says(*chunks)), name)


@in_every_mode
def an_emoji_cut_in_two_by_the_network(walk: Walk) -> Scenario:
    return walk.scenario(walk.turn(answer=sends(Text("so: "), CutText("🌍!", at_byte=2), shows="so: 🌍!")))


@in_every_mode
def unicode_in_a_question_arrives_as_it_was_asked(walk: Walk) -> Scenario:
    def check(played: Played) -> None:
        assert played.answer_call.last_user == "{{whoami}} 🌍 \u202e naïve"

    return walk.scenario(walk.turn(answer=says("Hi")), asks="{{whoami}} 🌍 \u202e naïve", check=check)


@in_every_mode
def whoami_is_in_the_prompt_of_who_answers(walk: Walk) -> Iterator[Scenario]:
    def check(played: Played) -> None:
        assert WHOAMI in played.answer_call.system

    yield walk.scenario(walk.turn(answer=says("Hi")), "without_tools", check=check)
    yield walk.scenario(walk.turn(ADDED, answer=says("5")), "with_tools", check=check)


@in_every_mode
def what_was_said_before_reaches_the_model(walk: Walk) -> Scenario:
    history = (ModelMessage("user", "I am Bo."), ModelMessage("assistant", "Hello Bo."))

    def check(played: Played) -> None:
        for call in played.calls:
            said = [message["content"] for message in call.messages]
            assert said.index("I am Bo.") < said.index("Hello Bo.")
        assert played.answer_call.last_user == "Who am I?"

    return walk.scenario(walk.turn(answer=says("You are Bo.")), asks="Who am I?", history=history, check=check)


@in_every_mode
def a_tool_exchange_of_an_earlier_turn_is_whole_or_left_out(walk: Walk) -> Scenario:
    history = (
        ModelMessage("tool", "orphan", tool_call_id="gone"),
        ModelMessage("user", "2+3?"),
        ModelMessage("assistant", "", (ModelToolCall("c1", "add", '{"a": 2, "b": 3}'),)),
        ModelMessage("tool", "5", tool_call_id="c1"),
        ModelMessage("assistant", "It is 5."),
        ModelMessage("assistant", "", (ModelToolCall("c2", "add", "{}"),)),
    )

    def check(played: Played) -> None:
        for call in played.calls:
            asked = [tool["id"] for m in call.messages for tool in m.get("tool_calls") or ()]
            answered = [m["tool_call_id"] for m in call.messages if m["role"] == "tool"]
            assert asked == answered
            assert set(answered) <= {"c1"}
            assert "It is 5." in [m["content"] for m in call.messages]

    return walk.scenario(walk.turn(answer=says("5.")), history=history, check=check)


@in_every_mode
def parameters_of_the_instance_are_on_the_wire(walk: Walk) -> Iterator[Scenario]:
    def check(played: Played) -> None:
        for call in played.calls:
            assert (call.asked["temperature"], call.asked["max_tokens"]) == (0, 123)
            assert call.model == "another-model"

    def check_unset(played: Played) -> None:
        for call in played.calls:
            assert "temperature" not in call.asked
            assert "max_tokens" not in call.asked
            assert call.model == "test-model"

    config = {"default_temperature": 0, "default_max_tokens": 123, "default_model_name": "another-model"}
    yield walk.scenario(walk.turn(ADDED, answer=says("5")), "set", config=config, check=check)
    yield walk.scenario(walk.turn(ADDED, answer=says("5")), "unset", check=check_unset)


@in_every_mode
def overrides_of_the_answering_node_are_on_the_wire_of_it_alone(walk: Walk) -> Scenario:
    prompt = DEFAULT_PROMPTS[walk.mode][walk.answerer] + "\nAnswer in rhymes about {braces}."
    override = {"model_name": "rhymes", "temperature": 0, "max_tokens": 9, "prompt_override": prompt}

    def check(played: Played) -> None:
        answer = played.answer_call
        assert (answer.asked["model"], answer.asked["temperature"], answer.asked["max_tokens"]) == ("rhymes", 0, 9)
        assert "Answer in rhymes about {braces}." in answer.system
        assert WHOAMI in answer.system
        for call in played.calls:
            if call is answer or walk.answerer_calls_tools:
                continue
            assert call.model == "test-model"
            assert call.asked["temperature"] == 0.7
            assert "max_tokens" not in call.asked
            assert "rhymes" not in call.system

    return walk.scenario(
        walk.turn(ADDED, answer=says("5")),
        config={"default_temperature": 0.7},
        mode_config={walk.answerer: override},
        check=check,
    )


@in_every_mode
def a_node_may_have_a_credential_of_its_own(walk: Walk) -> Scenario:
    """Whose key goes with which model is checked in every scenario."""

    def check(played: Played) -> None:
        assert played.answer_call.model == OTHER_MODEL
        assert played.answer_call.api_key == OTHER_API_KEY

    override = {"llm_config_id": str(OTHER_LLM_CONFIG_ID)}
    return walk.scenario(walk.turn(ADDED, answer=says("5")), mode_config={walk.answerer: override}, check=check)


@in_every_mode
def a_suggestion_follows_the_answer(walk: Walk) -> Iterator[Scenario]:
    asked = {"enabled_suggestion": True}
    path = walk.turn(answer=says("Hi"))
    suggested = walk.visited("suggestion_node", [("suggestion", "What can you add?")])
    yield walk.scenario(path.then(says("What can you add?\n"), events=suggested), mode_config=asked)
    nothing = path.then(says("", " "), events=walk.visited("suggestion_node"))
    yield walk.scenario(nothing, "unless_there_is_none", mode_config=asked)


@in_every_mode
def usage_is_the_sum_over_all_calls(walk: Walk) -> Scenario:
    """Every scenario checks the sum; this one has counts that differ, and cached tokens."""
    path = walk.turn(ADDED, ADDED, answer=says("5", usage=usage_of(300, 7, cached=100)))

    def check(played: Played) -> None:
        assert played.result is not None
        usage = played.result.usage
        before = len(played.calls) - 1
        assert (usage.input_tokens, usage.output_tokens) == (300 + 10 * before, 7 + 5 * before)
        assert (usage.cached_tokens, usage.is_estimated) == (100, False)

    return walk.scenario(path, counts_usage=False, check=check)


@in_every_mode
def usage_without_a_count_is_estimated_and_marked(walk: Walk) -> Scenario:
    def check(played: Played) -> None:
        assert played.result is not None
        assert played.result.usage.is_estimated
        assert played.result.usage.output_tokens == 5 * (len(played.calls) - 1) + 2

    return walk.scenario(walk.turn(answer=says("12345678", usage=None)), counts_usage=False, check=check)
