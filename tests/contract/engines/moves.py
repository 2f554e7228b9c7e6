"""What the scripted model does in a scenario, one move per call. Moves are shared by all runs of a scenario: the steps
that a server serves and counts are made from them anew each time."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.model_call import ModelCall
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import Part, Step, Text, ToolCalls

Decide = Callable[[ModelCall], Sequence[Part]]


@dataclass(frozen=True)
class Move:
    """`decide` writes the parts once the call is there, for what a model says differently to each framework.
    `is_broken` when no whole answer comes of it. `shows` is its text, where the parts do not say it."""

    parts: Sequence[Part] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    decide: Decide | None = None
    is_broken: bool = False
    shows: str | None = None

    @property
    def text(self) -> str:
        if self.shows is not None:
            return self.shows
        return "".join(part.content for part in self.parts if isinstance(part, Text))

    @property
    def is_answered(self) -> bool:
        """Whether the model's own count of tokens reaches the worker."""
        return not self.is_broken and self.options.get("usage", True) is not None

    def step(self) -> Step:
        if self.decide is not None:
            return DecidedStep(parts=(), decide=self.decide, **self.options)
        return Step(parts=self.parts, **self.options)


@dataclass
class DecidedStep(Step):
    decide: Decide | None = None


class ScenarioModel(ModelServer):
    """The scripted model server, which also plays moves."""

    def play(self, script: Sequence[Move]) -> None:
        self._steps += [move.step() for move in script]

    def serve(self, step: Step) -> None:
        self._steps.append(step)

    def _take(self, call: ModelCall) -> Step | None:
        step = super()._take(call)
        if isinstance(step, DecidedStep) and step.decide is not None:
            # A step of its own: others may be served from the same one at this moment.
            return Step(parts=step.decide(call), usage=step.usage)
        return step


def says(*chunks: str, **options: Any) -> Move:
    """Plain text, one delta per chunk."""
    return Move([Text(content) for content in chunks], options)


def says_as_json(value: Any, **options: Any) -> Move:
    """The answer to a call that asked for structured output."""
    return says(json.dumps(value), **options)


def calls(*tools: tuple[Any, ...], **options: Any) -> Move:
    """Tool calls in one answer: `("add", {"a": 1})` or `("add", {"a": 1}, "call_7")`."""
    return Move([ToolCalls(tools)], options)


def sends(*parts: Part, shows: str, **options: Any) -> Move:
    """An answer in any parts; `shows` is the text that they come to."""
    return Move(parts, options, shows=shows)


def fails(status: int, *, message: str = "scripted", **options: Any) -> Move:
    """An HTTP error before anything is streamed."""
    body = json.dumps({"error": {"message": message, "type": "scripted"}}).encode()
    return Move((), {"status": status, "body": body, **options}, is_broken=True)


def breaks(*parts: Part, **options: Any) -> Move:
    """An answer that never becomes whole."""
    return Move(parts, options, is_broken=True)


def decides(decide: Decide, **options: Any) -> Move:
    return Move((), options, decide)
