"""anchor → router → planner ⇄ control_tools … → synthesizer → (validation)."""

from collections.abc import Sequence
from typing import Any

from runtime_worker.engines.modes.failures import FIXED_FAILURE_TEXT
from shared.frameworks import Mode
from tests.contract.engines.bundles import CALC
from tests.contract.engines.moves import Move, fails, says, says_as_json
from tests.contract.engines.story import visit, wrote
from tests.contract.engines.walk import Path, Round, Walk
from tests.contract.engines.walks.supervisor import DONE, FIRST_FAILURE_CODE
from tests.fakes.plugin_bundle import FunctionBundle, ScopedFunctionBundle, ToolFunction

RESOURCE_ID = "order-7"
ANCHOR = {"name": "Order 7", "item": "a red bicycle"}


def scope(*, is_in: bool, reason: str = "") -> Move:
    return says_as_json({"in_scope": is_in, "reason": reason})


def verdict(*reasons: str) -> Move:
    """That of the validator: good without reasons."""
    return says_as_json({"is_valid": not reasons, "reasons": reasons})


def anchored(pid: str, *functions: ToolFunction, **options: Any) -> ScopedFunctionBundle:
    return ScopedFunctionBundle(pid, *functions, **{"resources": {RESOURCE_ID: ANCHOR}, **options})


class GroundedWalk(Walk):
    """Without the validator, but where that is what a scenario is about: a draft is shown only as a whole."""

    mode = Mode.GROUNDED
    model_nodes = ("router_node", "planner_node", "synthesizer_node", "validation_node", "error_handler_node")
    answer_nodes = ("synthesizer_node", "error_handler_node")
    speaker = "synthesizer_node"
    answerer = "synthesizer_node"

    def bundle(self, pid: str, *functions: ToolFunction, **options: Any) -> FunctionBundle:
        return anchored(pid, *functions, **options)

    def scenario_defaults(self) -> dict[str, Any]:
        return {"resource_id": RESOURCE_ID}

    def turn(self, *rounds: Round, answer: Move, is_last: bool = False) -> Path:
        return self.worked(rounds, is_last=is_last).answered(answer, "synthesizer_node")

    def without_tools(self, answer: Move) -> Path:
        return self.in_scope().answered(answer, "synthesizer_node")

    def in_scope(self) -> Path:
        return self._begun().then(scope(is_in=True), events=visit("router_node"))

    def worked(self, rounds: Sequence[Round], *, is_last: bool = False) -> Path:
        way = self.in_scope()
        for round_ in rounds:
            tools = visit("control_tools", visit("control_tools", round_.story(), agent=CALC))
            way = way.then(round_.move, events=[*visit("planner_node"), *tools], hops=1).after_round()
        return way if is_last else way.then(DONE, events=visit("planner_node"))

    def drafted(self, way: Path, draft: Move) -> Path:
        """A draft, which nobody sees."""
        return way.then(draft, events=visit("synthesizer_node")).configured(enabled_validator=True)

    def approved(self, way: Path, draft: Move) -> Path:
        """A draft that is found to be supported, and shown."""
        way = self.drafted(way, draft)
        shown = visit("validation_node", wrote(draft.text, "synthesizer_node"))
        return way.then(verdict(), events=shown, ended_by="synthesizer")

    def rejected(self, way: Path, draft: Move, *reasons: str) -> Path:
        return self.drafted(way, draft).then(verdict(*reasons), events=visit("validation_node"))

    def up_to(self, node: str) -> Path:
        match node:
            case "router_node":
                return self._begun()
            case "planner_node":
                return self.in_scope()
            case "synthesizer_node":
                return self.worked([])
            case "validation_node":
                return self.drafted(self.worked([]), says("A draft."))
            case "error_handler_node":
                return self._begun().then(fails(400), events=visit("router_node"))
        raise AssertionError(node)

    def failed(self, way: Path, node: str, trouble: Move, *, apology: Move) -> Path:
        if node == "error_handler_node":
            spoken = wrote(FIXED_FAILURE_TEXT, node)
            return way.then(trouble, events=visit(node, spoken), ended_by="error_handler")
        return way.then(trouble, events=visit(node)).answered(apology, "error_handler_node")

    def code_of_failure(self, node: str, code: str) -> str:
        return FIRST_FAILURE_CODE if node == "error_handler_node" else code

    def in_tool(self, round_: Round) -> Path:
        tools = visit("control_tools", visit("control_tools", round_.story(), agent=CALC))
        return self.in_scope().then(round_.move, events=[*visit("planner_node"), *tools])

    def _begun(self) -> Path:
        return Path([], visit("anchor_node")).configured(enabled_validator=False)
