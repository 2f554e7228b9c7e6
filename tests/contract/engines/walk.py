"""How a mode gets from a question to its answer: what lets one scenario be told in every mode."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared.frameworks import Mode
from tests.contract.engines.bundles import CALC, CALC_TOOLS
from tests.contract.engines.moves import Move, calls
from tests.contract.engines.scenario import Scenario
from tests.contract.engines.story import Event, Story, visit, wrote
from tests.fakes.plugin_bundle import FunctionBundle, ToolFunction

NODE_SECONDS = 60.0
"""`node_execution_timeout` when nothing is configured."""


@dataclass(frozen=True)
class Use:
    """One call of a tool and what comes of it. `offered` is what the model calls it; a `plugin` of None has no such
    tool, so that nothing is told of the call. `args` may be the literal text that the model writes."""

    offered: str
    args: dict[str, Any] | str
    result: Any = None
    error: str | None = None
    plugin: str | None = CALC
    tool: str | None = None
    call_id: str | None = None
    told_args: dict[str, Any] | None = None

    @property
    def call(self) -> tuple[Any, ...]:
        return (self.offered, self.args, self.call_id) if self.call_id else (self.offered, self.args)

    @property
    def reported(self) -> str:
        return f"{self.plugin}.{self.tool or self.offered}"

    def starts(self) -> Story:
        args = self.told_args if self.told_args is not None else self.args
        return [("tool_start", self.reported, args)] if self.plugin else []

    def ends(self) -> Story:
        return [("tool_end", self.reported, self.result, self.error)] if self.plugin else []


@dataclass(frozen=True)
class Round:
    """The calls of one answer of the model."""

    uses: Sequence[Use]
    in_parallel: bool = True

    @property
    def move(self) -> Move:
        return calls(*(use.call for use in self.uses))

    @property
    def plugins(self) -> list[str]:
        return list(dict.fromkeys(use.plugin for use in self.uses if use.plugin))

    def story(self) -> Story:
        if not self.in_parallel:
            return [event for use in self.uses for event in (*use.starts(), *use.ends())]
        return [event for use in self.uses for event in use.starts()] + [
            event for use in self.uses for event in use.ends()
        ]


@dataclass(frozen=True)
class Path:
    """A piece of a turn: moves of the model, the events they lead to, and the `mode_config` it needs."""

    script: Sequence[Move] = ()
    events: Sequence[Event] = ()
    hops: int = 0
    ended_by: str | None = None
    mode_config: Mapping[str, Any] = field(default_factory=dict)
    answer_at: int = -1
    rounds_at: Sequence[int] = ()

    @property
    def call_count(self) -> int:
        return sum(move.options.get("times", 1) for move in self.script)

    def then(self, *script: Move, events: Sequence[Event] = (), hops: int = 0, ended_by: str | None = None) -> "Path":
        return replace(
            self,
            script=[*self.script, *script],
            events=[*self.events, *events],
            hops=self.hops + hops,
            ended_by=ended_by or self.ended_by,
        )

    def answered(self, answer: Move, node: str, *, agent: str | None = None, before: Story | None = None) -> "Path":
        """`node` writes the answer; `before` is what else happens in its visit."""
        name = agent or node.removesuffix("_node")
        events = visit(node, before or [], wrote(answer.text, node), agent=agent)
        return replace(
            self.then(answer, events=events, ended_by=name),
            answer_at=self.call_count,
        )

    def after_round(self) -> "Path":
        """The next call of a model sees what the tools called last came to."""
        return replace(self, rounds_at=[*self.rounds_at, self.call_count])

    def playing(self, script: Sequence[Move], **changes: Any) -> "Path":
        """The same with other moves, and whatever else changes with them."""
        return replace(self, script=script, **changes)

    def configured(self, **mode_config: Any) -> "Path":
        return replace(self, mode_config={**self.mode_config, **mode_config})


class Walk(ABC):
    """The ways of one mode. `model_nodes` are the nodes that call a model, `answer_nodes` those whose text is shown;
    of them `speaker` and `answerer` write the answer without and with results of tools."""

    mode: Mode
    model_nodes: Sequence[str]
    answer_nodes: Sequence[str]
    speaker: str
    answerer: str
    answerer_calls_tools: bool = False

    @abstractmethod
    def turn(self, *rounds: Round, answer: Move, is_last: bool = False) -> Path:
        """A whole turn: rounds of tool calls, if any, and the answer. `is_last` when the rounds use up a limit, so that
        the model is not asked for another one."""

    @abstractmethod
    def up_to(self, node: str) -> Path:
        """Everything before `node` calls its model for the first time."""

    @abstractmethod
    def failed(self, way: Path, node: str, trouble: Move, *, apology: Move) -> Path:
        """`way`, then the call of `node` goes wrong before a word was shown, and what the mode does about it."""

    @abstractmethod
    def in_tool(self, round_: Round) -> Path:
        """A turn up to tools that do not come back: what was begun is ended, and nothing follows."""

    def without_tools(self, answer: Move) -> Path:
        """A whole turn of an instance whose plugin has no tools."""
        return self.turn(answer=answer)

    def bundle(self, pid: str, *functions: ToolFunction, **options: Any) -> FunctionBundle:
        """A plugin of a kind that the mode can work with."""
        return FunctionBundle(pid, *functions, **options)

    def scenario_defaults(self) -> dict[str, Any]:
        """What every scenario of the mode has."""
        return {}

    def visited(self, node: str, *inside: Story) -> Story:
        return visit(node, *inside)

    def seconds(self, node: str) -> float:
        """How long the model of a node may take: answer nodes get twice."""
        return 2 * NODE_SECONDS if node in self.answer_nodes else NODE_SECONDS

    def code_of_failure(self, node: str, code: str) -> str:
        """The code that a run ends with after `failed`, given that of what happened to the node."""
        return code

    def scenario(self, path: Path, name: str = "", **options: Any) -> Scenario:
        defaults: dict[str, Any] = {
            "ended_by": path.ended_by,
            "hops": path.hops,
            "answer_at": path.answer_at,
            "rounds_at": path.rounds_at,
            "plugins": lambda: (self.bundle(CALC, *CALC_TOOLS),),
            **self.scenario_defaults(),
        }
        mode_config = {**path.mode_config, **options.pop("mode_config", {})}
        return Scenario(
            name=name,
            mode=self.mode,
            script=path.script,
            events=path.events,
            mode_config=mode_config,
            **(defaults | options),
        )
