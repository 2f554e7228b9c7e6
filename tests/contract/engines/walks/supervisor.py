"""supervisor ⇄ control_tools … → (validation) → synthesizer; supervisor → facilitator or conversational."""

from runtime_worker.engines.modes.failures import FIXED_FAILURE_TEXT
from shared.frameworks import Mode
from tests.contract.engines.moves import Move, calls, fails, says, says_as_json
from tests.contract.engines.story import Story, visit, wrote
from tests.contract.engines.walk import Path, Round, Use, Walk

ONE_ROUND = Round([Use("add", {"a": 2, "b": 3}, 5)])
DONE = says("DONE")
FIRST_FAILURE_CODE = "LL-0004"
"""Of the call that leads `up_to` the error handler."""


def tool_round(round_: Round, *, refused: frozenset[str] = frozenset()) -> Story:
    """`control_tools` with the plugin agents it enters, one inside the other."""
    inside = round_.story()
    for pid in reversed([pid for pid in round_.plugins if pid not in refused]):
        inside = visit("control_tools", inside, agent=pid)
    return visit("control_tools", inside)


class SupervisorWalk(Walk):
    mode = Mode.SUPERVISOR
    model_nodes = (
        "supervisor_node",
        "validation_node",
        "synthesizer_node",
        "facilitator_node",
        "conversational_node",
        "error_handler_node",
    )
    answer_nodes = ("synthesizer_node", "facilitator_node", "conversational_node", "error_handler_node")
    speaker = "conversational_node"
    answerer = "synthesizer_node"

    def turn(self, *rounds: Round, answer: Move, is_last: bool = False) -> Path:
        if not rounds:
            return self._signalled("conversational").answered(answer, self.speaker)
        return self._worked(rounds, is_last=is_last).answered(answer, self.answerer)

    def up_to(self, node: str) -> Path:
        match node:
            case "supervisor_node":
                return Path()
            case "facilitator_node":
                return self._signalled("facilitator", reason="Which numbers?")
            case "conversational_node":
                return self._signalled("conversational")
            case "validation_node":
                return self._worked([ONE_ROUND]).configured(enabled_llm_validation=True)
            case "synthesizer_node":
                return self._worked([ONE_ROUND])
            case "error_handler_node":
                return Path([fails(400)], visit("supervisor_node"))
        raise AssertionError(node)

    def failed(self, way: Path, node: str, trouble: Move, *, apology: Move) -> Path:
        if node == "error_handler_node":
            spoken = wrote(FIXED_FAILURE_TEXT, node)
            return way.then(trouble, events=visit(node, spoken), ended_by="error_handler")
        return way.then(trouble, events=visit(node)).answered(apology, "error_handler_node")

    def code_of_failure(self, node: str, code: str) -> str:
        return FIRST_FAILURE_CODE if node == "error_handler_node" else code

    def in_tool(self, round_: Round) -> Path:
        return Path([round_.move], [*visit("supervisor_node"), *tool_round(round_)])

    def validated(self, *, is_valid: bool, reasons: list[str], answer: Move) -> Path:
        verdict = says_as_json({"is_valid": is_valid, "reasons": reasons})
        way = self.up_to("validation_node").then(verdict, events=visit("validation_node"))
        return way.answered(answer, "synthesizer_node" if is_valid else "facilitator_node")

    def _signalled(self, signal: str, **arguments: str) -> Path:
        return Path([calls((signal, arguments))], visit("supervisor_node"))

    def _worked(self, rounds: "list[Round] | tuple[Round, ...]", *, is_last: bool = False) -> Path:
        way = Path()
        for round_ in rounds:
            events = [*visit("supervisor_node"), *tool_round(round_)]
            way = way.then(round_.move, events=events, hops=len(round_.plugins)).after_round()
        return way if is_last else way.then(DONE, events=visit("supervisor_node"))
