"""Whatever router, planner and validator say, a grounded path ends within its limits in exactly one visible answer."""

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime_worker.engines.modes.grounded import MAX_DRAFTS, Node, Policy, Progress, Writing, routes
from shared.orchestrator_config import GroundedConfig

policies = st.builds(
    lambda config, has_tools: Policy.of(config, has_tools=has_tools),
    st.builds(
        GroundedConfig,
        max_tool_rounds=st.integers(1, 5),
        max_agent_hops=st.integers(1, 5),
        enabled_validator=st.booleans(),
        enabled_suggestion=st.booleans(),
    ),
    st.booleans(),
)


class Walk(msgspec.Struct):
    """`shown` is what became visible, `checked` whether each of it was found to be supported."""

    nodes: list[Node]
    progress: Progress = Progress()
    shown: list[Writing | Node] = []
    written: list[Writing] = []
    is_known: bool = True


def walk(policy: Policy, data: st.DataObject) -> Walk:
    """One run, every choice of a model, a plugin or fate drawn from `data`."""
    walked, writing = Walk([]), Writing.ANSWER
    following: Node | None = Node.ANCHOR
    while following is not None:
        node = following
        walked.nodes.append(node)
        assert len(walked.nodes) <= policy.max_steps, "the path does not end"
        if node not in (Node.ERROR_HANDLER, Node.SUGGESTION) and data.draw(st.integers(0, 19), "fails") == 19:
            following = Node.ERROR_HANDLER
            continue
        match node:
            case Node.ANCHOR:
                walked.is_known = data.draw(st.booleans(), "known")
                following = policy.after_anchor(is_known=walked.is_known)
                if following is None:
                    walked.shown.append(node)
            case Node.ROUTER:
                walked.progress = Progress(in_scope=data.draw(st.booleans(), "in scope"))
                following = policy.after_router(walked.progress)
            case Node.PLANNER:
                following = policy.after_planner(walked.progress, calls_tools=data.draw(st.booleans(), "calls"))
            case Node.CONTROL_TOOLS:
                walked.progress = policy.after_round(walked.progress)
                following = policy.after_tools(walked.progress)
            case Node.SYNTHESIZER:
                writing = policy.writing(walked.progress)
                walked.written.append(writing)
                if not policy.is_draft(writing):
                    walked.shown.append(writing)
                following = policy.after_synthesizer(writing)
            case Node.VALIDATION:
                is_valid = data.draw(st.booleans(), "valid")
                if is_valid:
                    walked.shown.append(writing)
                else:
                    walked.progress = policy.after_rejection(walked.progress)
                following = policy.after_validation(is_valid=is_valid)
            case Node.ERROR_HANDLER:
                walked.shown.append(node)
                following = None
            case Node.SUGGESTION:
                following = None
    return walked


@given(policy=policies, data=st.data())
def test_every_path_ends_within_its_limits(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    assert walked.nodes.count(Node.CONTROL_TOOLS) <= policy.max_rounds
    assert walked.nodes.count(Node.VALIDATION) <= MAX_DRAFTS
    assert walked.progress.rounds <= policy.max_rounds


@given(policy=policies, data=st.data())
def test_exactly_one_text_becomes_visible(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    assert len(walked.shown) == 1
    assert (walked.shown == [Node.ANCHOR]) == (not walked.is_known)


@given(policy=policies, data=st.data())
def test_no_answer_passes_a_validator_unseen(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    if policy.shape.has_validator and walked.shown[0] in (Writing.ANSWER, Writing.REPAIRED_ANSWER):
        assert Node.VALIDATION in walked.nodes


@given(policy=policies, data=st.data())
def test_two_rejected_drafts_end_in_a_refusal(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    drafts = [writing for writing in walked.written if policy.is_draft(writing)]
    assert drafts in ([], [Writing.ANSWER], [Writing.ANSWER, Writing.REPAIRED_ANSWER])
    assert (Writing.NOT_SUPPORTED in walked.written) <= (walked.progress.rejected == MAX_DRAFTS)


@given(policy=policies, data=st.data())
def test_what_is_out_of_scope_reaches_no_tool(policy: Policy, data: st.DataObject) -> None:
    walked = walk(policy, data)
    if not walked.progress.in_scope:
        assert not {Node.PLANNER, Node.CONTROL_TOOLS, Node.VALIDATION, Node.SUGGESTION} & set(walked.nodes)


@given(policy=policies, data=st.data())
def test_only_ways_that_are_drawn_are_taken(policy: Policy, data: st.DataObject) -> None:
    nodes, ways = walk(policy, data).nodes, routes(policy.shape)
    for node, follower in pairwise(nodes):
        assert follower in ways[node] or follower is Node.ERROR_HANDLER
    assert None in ways[nodes[-1]]
