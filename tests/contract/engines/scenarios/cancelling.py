"""Cancelling: at every node the model is hung up on, what began ends, and nothing comes after."""

from collections.abc import Iterator

from runtime_worker.engines.telling import CUT_OFF
from tests.contract.engines.catalogue import in_every_mode
from tests.contract.engines.meanwhile import call, cancelled, first
from tests.contract.engines.moves import breaks
from tests.contract.engines.scenario import Played, Scenario
from tests.contract.engines.story import wrote
from tests.contract.engines.walk import Round, Use, Walk
from tests.fakes.model_steps import Stall, Text


def is_hung_up_on(played: Played) -> None:
    assert played.calls[-1].hung_up.is_set()


@in_every_mode
def a_run_is_cancelled(walk: Walk) -> Iterator[Scenario]:
    for node in walk.model_nodes:
        path = walk.up_to(node).then(breaks(Stall()), events=walk.visited(node))
        yield walk.scenario(
            path,
            f"before_{node}_says_anything",
            meanwhile=cancelled(at=call(path.call_count)),
            is_cancelled=True,
            check=is_hung_up_on,
        )
    for node in walk.answer_nodes:
        path = walk.up_to(node).then(breaks(Text("first"), Stall()), events=walk.visited(node, wrote("first", node)))
        yield walk.scenario(
            path,
            f"while_{node}_writes",
            meanwhile=cancelled(at=first("message")),
            is_cancelled=True,
            check=is_hung_up_on,
        )
    yield walk.scenario(
        walk.in_tool(Round([Use("hang", {}, error=CUT_OFF)])),
        "while_a_tool_runs",
        meanwhile=cancelled(at=first("tool_start")),
        is_cancelled=True,
    )
