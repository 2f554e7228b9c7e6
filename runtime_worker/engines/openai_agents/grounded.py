"""The grounded mode on the Agents SDK: the planner with its tools in the SDK's loop, an agent for each other node."""

from typing import Any

from runtime_worker.engines.modes.grounded import SCOPE, SUPPORT, Node
from runtime_worker.engines.nodes.grounded import GROUNDED, GroundedState, planned, planning
from runtime_worker.engines.nodes.visit import Update
from runtime_worker.engines.openai_agents.deciding import DecidingLoop
from runtime_worker.engines.openai_agents.run import AgentsRun
from runtime_worker.engines.openai_agents.wiring import Wiring


async def plan(state: GroundedState, run: AgentsRun[Any]) -> Update:
    return planned(await run.complete(run.instance.nodes[Node.PLANNER], run.request_made, None), state, run)


_loop = DecidingLoop(
    Node.PLANNER,
    Node.CONTROL_TOOLS,
    instructions=lambda run: planning(run.state, run)[0],
    max_rounds=lambda run: run.instance.policy.max_rounds,
)
GROUNDED_WIRING = Wiring(
    mode=GROUNDED,
    works={Node.PLANNER: plan},
    schemas=lambda _: {Node.ROUTER: SCOPE.schema, Node.VALIDATION: SUPPORT.schema},
    loops={Node.PLANNER: _loop},
    options={Node.PLANNER: {"tool_use_behavior": _loop.goes_on}},
)
