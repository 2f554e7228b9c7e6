"""Limits: of rounds, of time. Those of agents are in the modules of the modes that have them."""

from collections.abc import Iterator

from tests.contract.engines.catalogue import in_every_mode
from tests.contract.engines.meanwhile import call, first, time_passes
from tests.contract.engines.moves import breaks, says
from tests.contract.engines.scenario import Played, Scenario
from tests.contract.engines.story import wrote
from tests.contract.engines.walk import Round, Use, Walk
from tests.fakes.model_steps import Stall, Text

ADDED = Round([Use("add", {"a": 1, "b": 1}, 2)])
RUN_TIMED_OUT = "OR-0005"
RUN_SECONDS = 50.0
"""Less than what any node is given, so that it is the run's own deadline that passes."""


@in_every_mode
def rounds_of_tools_have_a_limit_and_then_the_answer_is_written(walk: Walk) -> Iterator[Scenario]:
    for limit in (1, 2):
        path = walk.turn(*[ADDED] * limit, answer=says("2, and I stopped there."), is_last=True)

        def check(played: Played, limit: int = limit) -> None:
            assert played.bundles[0].calls == [("add", {"a": 1, "b": 1})] * limit

        yield walk.scenario(path, str(limit), mode_config={"max_tool_rounds": limit}, check=check)


@in_every_mode
def a_run_ends_at_its_deadline(walk: Walk) -> Iterator[Scenario]:
    ends = {"raises": RUN_TIMED_OUT, "run_seconds": RUN_SECONDS}
    for node in walk.model_nodes:
        way = walk.up_to(node)
        path = way.then(breaks(Stall()), events=walk.visited(node))
        passing = time_passes(RUN_SECONDS, at=call(path.call_count))
        yield walk.scenario(path, f"while_{node}_waits", meanwhile=passing, **ends)
    way = walk.up_to(walk.speaker)
    path = way.then(breaks(Text("The beg"), Stall()), events=walk.visited(walk.speaker, wrote("The beg", walk.speaker)))
    passing = time_passes(RUN_SECONDS, at=first("message"))
    yield walk.scenario(path, "in_the_middle_of_the_answer", meanwhile=passing, **ends)
    path = walk.in_tool(Round([Use("hang", {}, error="the run ended before the tool did")]))
    passing = time_passes(RUN_SECONDS, at=first("tool_start"))
    yield walk.scenario(path, "while_a_tool_runs", meanwhile=passing, **ends)
