"""What a scenario is: a configuration, a turn, the model's moves, and what must come of it on every framework."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from runtime_worker.engines.base import RunResult
from runtime_worker.models.base import ModelMessage
from shared.errors import DomainError
from shared.frameworks import Mode
from tests.contract.engines.meanwhile import Meanwhile
from tests.contract.engines.moves import Move
from tests.contract.engines.story import Event
from tests.fakes.event_sink import RecordingSink
from tests.fakes.model_call import ModelCall
from tests.fakes.plugin_bundle import FunctionBundle

WHOAMI = "You are Ada, and you like {braces}."
MODEL = "test-model"
OTHER_MODEL = "other-model"
OTHER_LLM_CONFIG_ID = UUID("00000000-0000-7000-8000-000000000002")
OTHER_API_KEY = "sk-other-0123456789abcdef"
"""A second credential that every instance may use for a node."""


@dataclass
class Played:
    """What came of a run. `result` or `error`, or none of the two when it was cancelled."""

    result: RunResult | None
    error: DomainError | None
    sink: RecordingSink
    calls: Sequence[ModelCall]
    bundles: Sequence[FunctionBundle]
    answer_at: int
    rounds_at: Sequence[int]

    @property
    def answer_call(self) -> ModelCall:
        """The one whose text is the answer."""
        return self.calls[self.answer_at]

    def results_of_round(self, number: int) -> Sequence[str]:
        """What the model was told after its `number`-th round of calls (1-based), earlier rounds left out."""
        told = self.calls[self.rounds_at[number - 1]].tool_results
        before = self.calls[self.rounds_at[number - 1] - 1].tool_results
        return told[len(before) :]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`ended_by` is the agent that wrote the answer, `hops` how many agents the mode counts, `error_code` that of a run
    that ended in words only. A run with `raises` fails with that code instead, one that `is_cancelled` ends so, because
    of what `meanwhile` does beside it. `counts_usage` expects the same few tokens for each call that was answered.
    `keeps_tool_order` compares tool events as they came: only where calls run one after the other. `answer_at` is the
    index of the call that writes the answer, `rounds_at` those of the calls that follow a round of tools.
    """

    name: str
    mode: Mode
    script: Sequence[Move]
    events: Sequence[Event]
    plugins: Callable[[], Sequence[FunctionBundle]]
    asks: str = "Please do it."
    ended_by: str | None = None
    hops: int | None = None
    error_code: str | None = None
    raises: str | None = None
    meanwhile: Meanwhile | None = None
    is_cancelled: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    mode_config: Mapping[str, Any] = field(default_factory=dict)
    llm: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[ModelMessage] = ()
    resource_id: str | None = None
    anchor: Mapping[str, Any] | None = None
    last_agent: str | None = None
    run_seconds: float = 300
    counts_usage: bool = True
    keeps_tool_order: bool = False
    answer_at: int = -1
    rounds_at: Sequence[int] = ()
    check: Callable[[Played], None] | None = None

    @property
    def answer(self) -> str:
        return "".join(event[1] for event in self.events if event[0] == "message")
