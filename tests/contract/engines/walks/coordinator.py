"""coordinator ⇄ agent … → synthesizer, or suspend when a limit is in the way."""

from runtime_worker.engines.modes.coordinator import FINISH
from runtime_worker.engines.modes.failures import FIXED_FAILURE_TEXT
from shared.frameworks import Mode
from tests.contract.engines.bundles import CALC
from tests.contract.engines.moves import Move, fails, says, says_as_json
from tests.contract.engines.story import Story, visit, wrote
from tests.contract.engines.walk import Path, Round, Walk
from tests.contract.engines.walks.supervisor import FIRST_FAILURE_CODE

REPORT = says("It is done.")


def routes(agent: str, task: str = "Do it.") -> Move:
    """The coordinator's decision for an agent, as models know it, or to finish."""
    return says_as_json({"next": agent, "task": task})


def finishes() -> Move:
    return routes(FINISH, "")


def short(pid: str) -> str:
    return pid.rpartition(".")[2]


class CoordinatorWalk(Walk):
    mode = Mode.COORDINATOR
    model_nodes = ("coordinator_node", "agent_node", "synthesizer_node", "suspend_node", "error_handler_node")
    answer_nodes = ("synthesizer_node", "suspend_node", "error_handler_node")
    speaker = "synthesizer_node"
    answerer = "synthesizer_node"

    def turn(self, *rounds: Round, answer: Move, is_last: bool = False) -> Path:
        way = self.worked(Path(), CALC, *rounds) if rounds else Path()
        return self.finished(way, answer)

    def worked(self, way: Path, pid: str, *rounds: Round, report: Move = REPORT) -> Path:
        """The coordinator sends an agent, which calls tools in rounds and reports."""
        way = way.then(routes(short(pid)), events=visit("coordinator_node"))
        story: Story = []
        for round_ in rounds:
            way = way.then(round_.move).after_round()
            story += round_.story()
        return way.then(report, events=visit("agent_node", story, agent=pid), hops=1)

    def finished(self, way: Path, answer: Move) -> Path:
        return way.then(finishes(), events=visit("coordinator_node")).answered(answer, "synthesizer_node")

    def suspended(self, way: Path, pid: str, answer: Move) -> Path:
        """The coordinator wants an agent that it may not have any more."""
        return way.then(routes(short(pid)), events=visit("coordinator_node")).answered(answer, "suspend_node")

    def up_to(self, node: str) -> Path:
        match node:
            case "coordinator_node":
                return Path()
            case "agent_node":
                return Path([routes(short(CALC))], visit("coordinator_node"))
            case "synthesizer_node":
                return Path([finishes()], visit("coordinator_node"))
            case "suspend_node":
                way = self.worked(Path(), CALC).then(routes(short(CALC)), events=visit("coordinator_node"))
                return way.configured(consecutive_agent_route_limit=1)
            case "error_handler_node":
                return Path([fails(400)], visit("coordinator_node"))
        raise AssertionError(node)

    def failed(self, way: Path, node: str, trouble: Move, *, apology: Move) -> Path:
        if node == "error_handler_node":
            spoken = wrote(FIXED_FAILURE_TEXT, node)
            return way.then(trouble, events=visit(node, spoken), ended_by="error_handler")
        return way.then(trouble, events=self.visited(node)).answered(apology, "error_handler_node")

    def code_of_failure(self, node: str, code: str) -> str:
        return FIRST_FAILURE_CODE if node == "error_handler_node" else code

    def in_tool(self, round_: Round) -> Path:
        way = self.up_to("agent_node")
        return way.then(round_.move, events=visit("agent_node", round_.story(), agent=CALC))

    def visited(self, node: str, *inside: Story) -> Story:
        return visit(node, *inside, agent=CALC if node == "agent_node" else None)
