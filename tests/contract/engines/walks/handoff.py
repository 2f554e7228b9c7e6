"""agent → agent …; the last one answers."""

from collections.abc import Sequence

from runtime_worker.engines.modes.failures import FIXED_FAILURE_TEXT
from shared.frameworks import Mode
from tests.contract.engines.bundles import CALC
from tests.contract.engines.moves import Move, decides, fails
from tests.contract.engines.story import Story, visit, wrote
from tests.contract.engines.walk import Path, Round, Walk
from tests.contract.engines.walks.supervisor import FIRST_FAILURE_CODE
from tests.fakes.model_call import ModelCall
from tests.fakes.model_steps import Part, ToolCalls


def transfers(*agents: str) -> Move:
    """Calls that hand the conversation over, by whichever tool the model is offered for that."""

    def decide(call: ModelCall) -> Sequence[Part]:
        if "transfer_to_agent" in call.tool_names:
            return [ToolCalls([("transfer_to_agent", {"agent_name": agent}) for agent in agents])]
        return [ToolCalls([(f"transfer_to_{agent}", {}) for agent in agents])]

    return decides(decide)


class HandoffWalk(Walk):
    mode = Mode.HANDOFF
    model_nodes = ("agent_node", "error_handler_node")
    answer_nodes = ("agent_node", "error_handler_node")
    speaker = "agent_node"
    answerer = "agent_node"
    answerer_calls_tools = True

    def turn(self, *rounds: Round, answer: Move, is_last: bool = False) -> Path:
        return self.taken(Path(), CALC, *rounds, answer=answer)

    def taken(self, way: Path, pid: str, *rounds: Round, answer: Move) -> Path:
        """An agent has the conversation, calls tools in rounds and answers."""
        story: Story = []
        for round_ in rounds:
            way = way.then(round_.move).after_round()
            story += round_.story()
        return way.answered(answer, "agent_node", agent=pid, before=story)

    def handed_over(self, way: Path, pid: str, to: str, *rounds: Round) -> Path:
        """An agent has the conversation, calls tools in rounds and transfers it."""
        story: Story = []
        for round_ in rounds:
            way = way.then(round_.move).after_round()
            story += round_.story()
        return way.then(transfers(to), events=visit("agent_node", story, agent=pid), hops=1)

    def up_to(self, node: str) -> Path:
        return Path([fails(400)], self.visited("agent_node")) if node == "error_handler_node" else Path()

    def failed(self, way: Path, node: str, trouble: Move, *, apology: Move) -> Path:
        """The agent that had the conversation keeps it."""
        if node == "error_handler_node":
            spoken = wrote(FIXED_FAILURE_TEXT, node)
            return way.then(trouble, events=visit(node, spoken), ended_by=CALC)
        path = way.then(trouble, events=self.visited(node)).answered(apology, "error_handler_node")
        return path.then(ended_by=CALC)

    def failed_at(self, way: Path, pid: str, *, apology: Move) -> Path:
        """The agent that has the conversation fails, and keeps it."""
        path = way.then(fails(400), events=visit("agent_node", agent=pid)).answered(apology, "error_handler_node")
        return path.then(ended_by=pid)

    def code_of_failure(self, node: str, code: str) -> str:
        return FIRST_FAILURE_CODE if node == "error_handler_node" else code

    def in_tool(self, round_: Round) -> Path:
        return Path([round_.move], self.visited("agent_node", round_.story()))

    def visited(self, node: str, *inside: Story) -> Story:
        return visit(node, *inside, agent=CALC if node == "agent_node" else None)
