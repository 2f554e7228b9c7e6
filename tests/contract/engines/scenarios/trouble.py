"""Models that fail, at every node: what a user reads then, and what they never read."""

from collections.abc import Iterator

from tests.contract.engines.catalogue import in_every_mode
from tests.contract.engines.meanwhile import call, time_passes
from tests.contract.engines.moves import Move, breaks, fails, says
from tests.contract.engines.scenario import OTHER_LLM_CONFIG_ID, OTHER_MODEL, Played, Scenario
from tests.contract.engines.story import wrote
from tests.contract.engines.walk import Walk
from tests.fakes.instances import API_KEY
from tests.fakes.model_steps import EndBody, HangUp, Part, Raw, Stall, Text, sse

GARBAGE = Raw(b"data: {nope\n\n")
APOLOGY = says("Sorry, that did not work.")

TROUBLES: dict[str, tuple[Move, str]] = {
    "credential_refused": (fails(401), "LL-0002"),
    "rate_limited": (fails(429), "LL-0003"),
    "request_refused": (fails(400, message=f"bad {API_KEY}"), "LL-0004"),
    "server_error": (fails(500), "LL-0005"),
    "garbage": (breaks(GARBAGE), "LL-0006"),
    "reset": (breaks(HangUp()), "LL-0006"),
    "early_end": (breaks(EndBody()), "LL-0006"),
    "stall": (breaks(Stall()), "LL-0007"),
}
"""What a model does before it wrote a word, and the code of what that is."""

BREAKS: dict[str, tuple[Part, str]] = {
    "garbage": (GARBAGE, "LL-0006"),
    "reset": (HangUp(), "LL-0006"),
    "early_end": (EndBody(), "LL-0006"),
    "rate_limited": (Raw(sse({"type": "error", "error": {"code": 429}})), "LL-0003"),
}
"""What ends an answer in the middle."""


def says_no_internals(played: Played) -> None:
    for asked in played.calls:
        assert API_KEY not in str(asked.body)
        assert "HTTP" not in asked.system
    assert API_KEY not in str(played.sink.events)


@in_every_mode
def a_model_that_fails_is_answered_for(walk: Walk) -> Iterator[Scenario]:
    for node in walk.model_nodes:
        way = walk.up_to(node)
        for name, (trouble, code) in TROUBLES.items():
            yield walk.scenario(
                walk.failed(way, node, trouble, apology=APOLOGY),
                f"{node}-{name}",
                error_code=walk.code_of_failure(node, code),
                meanwhile=time_passes(walk.seconds(node), at=call(way.call_count + 1)) if name == "stall" else None,
                check=says_no_internals,
            )


@in_every_mode
def an_answer_without_a_word_is_a_failure(walk: Walk) -> Scenario:
    way = walk.up_to(walk.speaker)
    return walk.scenario(walk.failed(way, walk.speaker, says("", ""), apology=APOLOGY), error_code="LL-0006")


@in_every_mode
def an_answer_that_breaks_in_the_middle_is_not_followed_by_another(walk: Walk) -> Iterator[Scenario]:
    for node in walk.answer_nodes:
        way = walk.up_to(node)
        for name, (ending, code) in BREAKS.items():
            path = way.then(
                breaks(Text("The answer"), Text(" is"), ending), events=walk.visited(node, wrote("The answer is", node))
            )
            yield walk.scenario(path, f"{node}-{name}", raises=code)


@in_every_mode
def what_fails_before_the_first_byte_is_tried_again(walk: Walk) -> Iterator[Scenario]:
    again: dict[str, Move] = {
        "rate_limited": fails(429, headers={"Retry-After": "0"}),
        "unavailable": fails(503, headers={"Retry-After": "0"}),
    }
    for name, trouble in again.items():
        path = walk.turn(answer=says("Hi"))
        script = [*path.script[: path.answer_at], trouble, *path.script[path.answer_at :]]
        yield walk.scenario(path.playing(script, answer_at=path.answer_at + 1), name, llm={"max_retries": 1})


@in_every_mode
def a_fallback_answers_for_a_model_that_cannot(walk: Walk) -> Scenario:
    """At the node that writes the answer; those before it had theirs from the first model."""

    def check(played: Played) -> None:
        assert played.answer_call.model == OTHER_MODEL
        assert played.result is not None
        assert [call.model_name for call in played.result.calls].count(OTHER_MODEL) == 1

    path = walk.turn(answer=says("Hi"))
    script = [*path.script[: path.answer_at], fails(500), *path.script[path.answer_at :]]
    return walk.scenario(
        path.playing(script, answer_at=path.answer_at + 1),
        config={"fallback_llm_config_id": str(OTHER_LLM_CONFIG_ID)},
        check=check,
    )


@in_every_mode
def a_retry_that_does_not_fit_into_the_time_of_a_node_is_not_waited_for(walk: Walk) -> Scenario:
    node = walk.model_nodes[0]
    trouble = fails(503, headers={"Retry-After": "10"})
    return walk.scenario(
        walk.failed(walk.up_to(node), node, trouble, apology=APOLOGY),
        error_code="LL-0005",
        llm={"max_retries": 1},
        mode_config={node: {"timeout": 5}},
    )


@in_every_mode
def a_suggestion_that_fails_costs_nothing(walk: Walk) -> Scenario:
    path = walk.turn(answer=says("Hi")).then(fails(400), events=walk.visited("suggestion_node"))
    return walk.scenario(path, mode_config={"enabled_suggestion": True})
