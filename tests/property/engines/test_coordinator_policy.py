"""Whatever a coordinator decides, its path ends within its limits in exactly one visible answer."""

from itertools import groupby, pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime_worker.engines.modes.coordinator import ANSWER_NODES, Node, Policy, Progress, routes
from shared.orchestrator_config import CoordinatorConfig

PIDS = ["com.a", "com.b", "com.c"]
policies = st.builds(
    Policy.of,
    st.builds(
        CoordinatorConfig,
        max_agent_hops=st.integers(1, 8),
        consecutive_agent_route_limit=st.integers(1, 4),
        max_tool_rounds=st.integers(1, 4),
        enabled_suggestion=st.booleans(),
    ),
)


class Walk(msgspec.Struct):
    """`entered` are the agents in order, `refused` the one that a limit kept out."""

    nodes: list[Node]
    entered: list[str]
    refused: str | None = None


def walk(policy: Policy, data: st.DataObject) -> Walk:
    """One run, every choice of a model or fate drawn from `data`."""
    walked, progress, wanted = Walk([], []), Progress(), None
    following: Node | None = Node.COORDINATOR
    while following is not None:
        node = following
        walked.nodes.append(node)
        assert len(walked.nodes) <= policy.max_steps, "the path does not end"
        if node not in (Node.ERROR_HANDLER, Node.SUGGESTION) and data.draw(st.integers(0, 19), "fails") == 19:
            following = Node.ERROR_HANDLER
            continue
        match node:
            case Node.COORDINATOR:
                wanted = data.draw(st.sampled_from([*PIDS, *PIDS, None]), "wanted")
                following = policy.after_coordinator(wanted, progress)
                walked.refused = wanted if following is Node.SUSPEND else None
            case Node.AGENT:
                assert wanted is not None
                walked.entered.append(wanted)
                progress = policy.entered(wanted, progress)
                following = policy.after_agent()
            case Node.ERROR_HANDLER | Node.SUGGESTION:
                following = None
            case _:
                following = policy.after_answer(node)
    return walked


@given(policy=policies, data=st.data())
def test_every_path_ends_within_its_limits(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    assert len(walked.entered) <= policy.max_agent_hops
    in_a_row = max((len(list(same)) for _, same in groupby(walked.entered)), default=0)
    assert in_a_row <= policy.consecutive_agent_route_limit


@given(policy=policies, data=st.data())
def test_a_turn_is_suspended_at_a_limit_only(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    if walked.refused is not None:
        last = walked.entered[-policy.consecutive_agent_route_limit :]
        is_circle = last == [walked.refused] * policy.consecutive_agent_route_limit
        assert is_circle or len(walked.entered) == policy.max_agent_hops


@given(policy=policies, data=st.data())
def test_exactly_one_node_answers_and_nothing_but_a_suggestion_follows(policy: Policy, data: st.DataObject) -> None:
    nodes = walk(policy, data).nodes
    # One that failed is followed by the error handler and has answered nothing.
    answered = [
        position
        for position, node in enumerate(nodes)
        if node in ANSWER_NODES and nodes[position + 1 : position + 2] != [Node.ERROR_HANDLER]
    ]
    assert len(answered) == 1
    assert nodes[answered[0] + 1 :] in ([], [Node.SUGGESTION])


@given(policy=policies, data=st.data())
def test_only_ways_that_are_drawn_are_taken(policy: Policy, data: st.DataObject) -> None:
    nodes, ways = walk(policy, data).nodes, routes(policy.shape)
    for node, follower in pairwise(nodes):
        assert follower in ways[node] or follower is Node.ERROR_HANDLER
    assert None in ways[nodes[-1]]


@given(policy=policies)
def test_an_agent_has_all_its_rounds_and_not_one_more(policy: Policy) -> None:
    assert [policy.must_report(rounds) for rounds in range(policy.max_tool_rounds)] == [False] * policy.max_tool_rounds
    assert policy.must_report(policy.max_tool_rounds)
