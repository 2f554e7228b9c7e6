"""Whatever a model decides, a supervisor's path ends within its limits in exactly one visible answer."""

from collections.abc import Iterator
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime_worker.engines.modes.failures import is_answered_in_words
from runtime_worker.engines.modes.supervisor import ANSWER_NODES, Decision, Node, Policy, Progress, Signal, routes
from shared.orchestrator_config import SupervisorConfig

PIDS = ["com.a", "com.b", "com.c"]
decisions = st.one_of(
    st.just(Decision()),
    st.sampled_from([Decision(signal=signal) for signal in Signal]),
    st.just(Decision(calls_tools=True)),
)
policies = st.builds(
    lambda config, has_validated_tools: Policy.of(config, has_validated_tools=has_validated_tools),
    st.builds(
        SupervisorConfig,
        max_tool_rounds=st.integers(1, 6),
        max_agent_hops=st.integers(1, 8),
        enabled_llm_validation=st.booleans(),
        enabled_clarification_intent=st.booleans(),
        enabled_suggestion=st.booleans(),
    ),
    st.booleans(),
)


class Walk(msgspec.Struct):
    nodes: list[Node]
    progress: Progress


def walk(policy: Policy, data: st.DataObject) -> Walk:
    """One run, every choice of a model, a tool or fate drawn from `data`."""
    walked, node, decision = Walk([], Progress()), Node.SUPERVISOR, Decision()
    following: Node | None = node
    while following is not None:
        node = following
        walked.nodes.append(node)
        assert len(walked.nodes) <= policy.max_steps, "the path does not end"
        if node not in (Node.ERROR_HANDLER, Node.SUGGESTION) and data.draw(st.integers(0, 9), "fails") == 9:
            assert is_answered_in_words(node, has_visible_text=False)
            following = Node.ERROR_HANDLER
            continue
        match node:
            case Node.SUPERVISOR:
                decision = data.draw(decisions, "decision")
                if not policy.shape.has_clarification and decision.signal is Signal.FACILITATOR:
                    decision = policy.decide([Signal.FACILITATOR.value])
                following = policy.after_supervisor(decision, walked.progress)
            case Node.CONTROL_TOOLS:
                wanted = data.draw(st.lists(st.sampled_from(PIDS), max_size=5), "agents")
                agents = policy.agents_of_round(wanted, walked.progress)
                awaits = policy.shape.has_validation and data.draw(st.booleans(), "marked")
                walked.progress = policy.next_progress(walked.progress, agents, awaits_validation=awaits)
                following = policy.after_tools(walked.progress)
            case Node.VALIDATION:
                following = policy.after_validation(is_valid=data.draw(st.booleans(), "valid"))
            case Node.ERROR_HANDLER | Node.SUGGESTION:
                following = None
            case _:
                following = policy.after_answer(node)
    return walked


@given(policy=policies, data=st.data())
def test_every_path_ends_within_its_limits(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    assert walked.progress.rounds <= policy.max_tool_rounds
    assert walked.progress.hops <= policy.max_agent_hops
    assert walked.nodes.count(Node.CONTROL_TOOLS) <= policy.max_tool_rounds


@given(policy=policies, data=st.data())
def test_exactly_one_node_answers_and_nothing_but_a_suggestion_follows(policy: Policy, data: st.DataObject) -> None:
    nodes = walk(policy, data).nodes
    completed = [n for n in _completed(nodes) if n in ANSWER_NODES]
    assert len(completed) == 1
    assert nodes[nodes.index(completed[0]) + 1 :] in ([], [Node.SUGGESTION])


@given(policy=policies, data=st.data())
def test_a_synthesis_has_results_and_a_wanted_validation_behind_it(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    if Node.SYNTHESIZER in walked.nodes:
        assert walked.progress.rounds > 0
        wants = policy.validates_always or walked.progress.awaits_validation
        assert (Node.VALIDATION in walked.nodes) == wants


@given(policy=policies, data=st.data())
def test_only_nodes_of_the_shape_are_visited(policy: Policy, data: st.DataObject) -> None:
    nodes = set(walk(policy, data).nodes)
    assert Node.VALIDATION not in nodes or policy.shape.has_validation
    assert Node.FACILITATOR not in nodes or policy.shape.has_facilitator
    assert Node.SUGGESTION not in nodes or policy.shape.has_suggestion


@given(policy=policies, calls=st.lists(st.sampled_from(["add", *Signal]), max_size=4))
def test_a_real_tool_wins_over_a_signal(policy: Policy, calls: list[str]) -> None:
    decision = policy.decide(calls)
    assert decision.calls_tools == any(call not in policy.signals for call in calls)
    assert not (decision.calls_tools and decision.signal)


def test_a_second_answer_never_follows_visible_text() -> None:
    assert not any(is_answered_in_words(node, has_visible_text=True) for node in Node)


@given(policy=policies, data=st.data())
def test_only_ways_that_are_drawn_are_taken(policy: Policy, data: st.DataObject) -> None:
    nodes, ways = walk(policy, data).nodes, routes(policy.shape)
    for node, follower in pairwise(nodes):
        assert follower in ways[node] or follower is Node.ERROR_HANDLER
    assert None in ways[nodes[-1]]


def _completed(nodes: list[Node]) -> Iterator[Node]:
    """The nodes that did not fail: one that failed is followed by the error handler."""
    for position, node in enumerate(nodes):
        if nodes[position + 1 : position + 2] != [Node.ERROR_HANDLER]:
            yield node
