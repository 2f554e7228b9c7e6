"""Whoever transfers to whom, a handoff ends within its limits and with exactly one agent that answers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime_worker.engines.modes.handoff import Policy, Progress
from shared.orchestrator_config import HandoffConfig

PIDS = ["com.a", "com.b", "com.c"]
policies = st.builds(
    Policy.of,
    st.builds(
        HandoffConfig,
        max_agent_hops=st.integers(1, 8),
        max_tool_rounds=st.integers(1, 4),
        entry_agent=st.sampled_from([*PIDS, None]),
    ),
    st.just(PIDS),
)
wanted = st.sampled_from([*PIDS, "com.gone", None])


@given(policy=policies, asked=st.lists(wanted, max_size=30))
def test_a_chain_of_transfers_ends_and_nobody_gets_it_from_themselves(policy: Policy, asked: list[str | None]) -> None:
    progress = policy.first(None)
    chain = [progress.agent]
    for peer in asked:
        transfer = policy.transfer(peer, progress, has_begun=False)
        if transfer.agent is not None:
            progress = policy.transferred(transfer.agent, progress)
            chain.append(transfer.agent)
        assert transfer.must_answer == (len(chain) - 1 == policy.max_agent_hops and transfer.agent is None)
    assert len(chain) - 1 == progress.hops <= policy.max_agent_hops
    assert all(a != b for a, b in pairwise(chain))


@given(policy=policies, agent=st.sampled_from(PIDS), hops=st.integers(0, 8), asked=wanted)
def test_who_has_begun_to_answer_answers(policy: Policy, agent: str, hops: int, asked: str | None) -> None:
    transfer = policy.transfer(asked, Progress(agent, hops), has_begun=True)
    assert (transfer.agent, transfer.must_answer) == (None, True)


@given(policy=policies, last=st.sampled_from([*PIDS, "com.gone", "error_handler", None]))
def test_the_agent_that_answered_last_goes_on_unless_it_is_gone(policy: Policy, last: str | None) -> None:
    assert policy.first(last) == Progress(last if last in PIDS else policy.entry_agent)


def test_without_an_entry_agent_the_first_plugin_begins() -> None:
    assert Policy.of(HandoffConfig(), PIDS).entry_agent == "com.a"
