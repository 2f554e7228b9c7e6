"""What the worker knows of an engine: give it a snapshot and its parts, get an orchestrator that runs turns."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec

from runtime_worker.models.base import ModelClient, ModelMessage, Usage
from runtime_worker.plugins.base import PluginBundle
from shared.frameworks import Provider
from shared.orchestrator_config import NodeOverride
from shared.snapshots import OrchestratorSnapshot


class EventSink(Protocol):
    """Where a run tells what happens. Telling returns at once; order is kept; nothing here can fail a run."""

    def agent_start(self, agent: str, node: str) -> None: ...

    def agent_end(self, agent: str, node: str) -> None: ...

    def tool_start(self, tool: str, call_id: str, args: Mapping[str, Any]) -> None:
        """`tool` is always `<pid>.<tool>`."""
        ...

    def tool_end(
        self, tool: str, call_id: str, *, duration_ms: int, result: Any = None, error: str | None = None
    ) -> None: ...

    def message(self, content: str, node: str) -> None:
        """A fragment of the visible answer. The concatenation of all fragments is the stored answer."""
        ...

    def suggestion(self, content: str) -> None: ...

    async def recorded(self) -> None:
        """Returns once the turn is on record. An engine may think before that, for its model's first answer takes
        longer than storing a message does; whatever touches the world (a tool, a plugin's own code) waits for it."""
        ...


class ModelCall(msgspec.Struct, frozen=True):
    """One call of a run that a model answered, or began to, as usage is accounted for. `at` is when it was over."""

    node: str
    provider: Provider
    model_name: str
    usage: Usage
    duration_ms: int
    at: datetime


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that belongs to one run; an orchestrator holds nothing of it.

    `history` is already windowed and oldest first, without `message`. `deadline` is on the monotonic clock of
    `asyncio`'s loop, in seconds; engines pass what is left of it down to every call.

    `anchor` is what a grounded conversation's first turn loaded of its resource, None when nothing was loaded yet;
    `last_agent` is the `RunResult.current_agent` of the conversation's last turn.

    `calls` is where the engine notes each model call when it is over, so that also a run without a result has told;
    `on_anchor` is told of what was loaded of a resource as soon as it is, before the result says so too.
    """

    run_id: UUID
    conversation_id: UUID
    org_id: UUID
    user_id: UUID
    message: str
    history: Sequence[ModelMessage]
    resource_id: str | None
    deadline: float
    anchor: Mapping[str, Any] | None = None
    last_agent: str | None = None
    calls: list[ModelCall] = msgspec.field(default_factory=list)
    on_anchor: Callable[[Mapping[str, Any]], None] | None = None


class RunResult(msgspec.Struct, frozen=True):
    """`answer` is the concatenated message fragments. `error_code` is set for a run that ended in words only.

    `anchor` is what this run loaded of its resource, to be kept with the conversation; None when it loaded nothing.
    `usage` is the sum over `calls`.
    """

    answer: str
    usage: Usage
    agent_hops: int
    current_agent: str | None
    tool_messages: tuple[ModelMessage, ...] = ()
    error_code: str | None = None
    anchor: Mapping[str, Any] | None = None
    calls: tuple[ModelCall, ...] = ()


class ModelChoice(msgspec.Struct, frozen=True):
    """The model of one node with the parameters that its override, or else the default, asks for.

    `client` tries the instance's fallback by itself when its own model does not answer.
    """

    client: ModelClient
    provider: Provider
    temperature: float | None
    max_tokens: int | None


class EngineParts(msgspec.Struct, frozen=True):
    """What an orchestrator is built from besides its snapshot. Shared, counted by the pool, never closed here.

    `models` maps `(llm_config_id, model_name)` to clients.
    """

    models: Mapping[tuple[UUID, str], ModelClient]
    bundles: tuple[PluginBundle, ...]


class Orchestrator(Protocol):
    """One built instance. Immutable: it serves any number of concurrent runs."""

    @property
    def snapshot(self) -> OrchestratorSnapshot: ...

    async def run(self, request: RunRequest, sink: EventSink) -> RunResult:
        """One turn. Cancelling the task cancels the turn and closes upstream sockets.

        Raises shared.errors.DomainError for what ends a run as failed; anything a mode can answer in words does not
        raise.
        """
        ...

    def mermaid(self) -> str:
        """A Mermaid graph of what is really wired."""
        ...


class Engine(Protocol):
    """Builds orchestrators of one framework and mode."""

    @property
    def template_count(self) -> int:
        """How many compiled graphs, or what the framework has of the kind, its instances share."""
        ...

    async def build(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> Orchestrator:
        """Raises OrchestratorBuildFailed with a reason an admin can act on."""
        ...


RunStatus = Literal["queued", "running", "completed", "failed", "cancelled"]

__all__ = [
    "Engine",
    "EngineParts",
    "EventSink",
    "ModelCall",
    "ModelChoice",
    "NodeOverride",
    "Orchestrator",
    "RunRequest",
    "RunResult",
    "RunStatus",
]
