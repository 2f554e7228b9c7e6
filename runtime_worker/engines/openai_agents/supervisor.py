"""The supervisor on the Agents SDK: one agent with every tool in the SDK's loop, and one for each other node."""

from typing import Any

from runtime_worker.engines.modes.supervisor import VERDICT, Node
from runtime_worker.engines.nodes.supervisor import SUPERVISOR, SupervisorState, decided
from runtime_worker.engines.nodes.visit import Update
from runtime_worker.engines.openai_agents.deciding import DecidingLoop
from runtime_worker.engines.openai_agents.run import AgentsRun
from runtime_worker.engines.openai_agents.wiring import Wiring


async def supervise(state: SupervisorState, run: AgentsRun[Any]) -> Update:
    answer = await run.complete(run.instance.nodes[Node.SUPERVISOR], run.request_made, None)
    return decided(answer, state, run)


_loop = DecidingLoop(
    Node.SUPERVISOR,
    Node.CONTROL_TOOLS,
    instructions=lambda run: run.instance.nodes[Node.SUPERVISOR].system(),
    max_rounds=lambda run: run.instance.policy.max_tool_rounds,
)
SUPERVISOR_WIRING = Wiring(
    mode=SUPERVISOR,
    works={Node.SUPERVISOR: supervise},
    schemas=lambda _: {Node.VALIDATION: VERDICT.schema},
    loops={Node.SUPERVISOR: _loop},
    options={Node.SUPERVISOR: {"tool_use_behavior": _loop.goes_on}},
)
