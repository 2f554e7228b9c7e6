"""One visit of a node: its events around its work, and what becomes of a failure. The same in every mode."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from runtime_worker.engines.base import EngineParts, RunResult
from runtime_worker.engines.modes.failures import is_answered_in_words
from runtime_worker.engines.modes.node import ERROR_HANDLER, ModeNode
from runtime_worker.engines.nodes.run import Instance, RunContext
from shared.errors import DomainError, RunFailed
from shared.logging import get_logger
from shared.snapshots import OrchestratorSnapshot

log = get_logger(__name__)

I = TypeVar("I", bound=Instance)  # noqa: E741
S = TypeVar("S")
N = TypeVar("N", bound=ModeNode)
Update = dict[str, Any]
"""What a visit changes of the state; what is in `ADDED` is added to, everything else is replaced."""
ADDED = ("transcript", "reports")


@dataclass(frozen=True, eq=False)
class ModeWork(Generic[I, S, N]):
    """A mode as a framework wires it: what is built, what its nodes do, and which one follows, by its policy.

    `S` is a TypedDict of what nodes of one run hand to each other. `routes` are all ways that an instance of a shape
    has between its nodes, but for failures: those lead from everywhere to the error handler.
    """

    name: str
    instance_of: Callable[[OrchestratorSnapshot, EngineParts], I]
    state_type: type[S]
    entry: N
    works: Mapping[N, Callable[[S, RunContext[I]], Awaitable[Update]]]
    routes: Callable[[Any], Mapping[N, tuple[N | None, ...]]]
    begin: Callable[[RunContext[I]], S]
    following: Callable[[N, S, RunContext[I]], N | None]
    result: Callable[[S, RunContext[I]], RunResult]
    agent: Callable[[N, S], str]

    async def visit(self, node: N, state: S, run: RunContext[I]) -> tuple[Update, N | None]:
        """What the visit changed and which node follows, None at the end.

        Raises DomainError for a failure that cannot be answered in words any more.
        """
        with run.telling.agent(self.agent(node, state), node.value):
            try:
                update = await self.works[node](state, run)
            except Exception as error:  # A node is where the mode promises to answer in words, whatever went wrong.
                return failed(node, error, run)
        after: Any = {**state, **update}  # type: ignore[dict-item]
        return update, self.following(node, after, run)


def failed(node: N, error: Exception, run: RunContext[Any]) -> tuple[Update, N]:
    """What becomes of a node that broke: as `ModeWork.visit`."""
    failure = failure_of(error, node.value, run)
    if not is_answered_in_words(node, has_visible_text=run.telling.has_visible_text):
        raise failure from error
    return {"failure": failure}, type(node)(ERROR_HANDLER)


def failure_of(error: Exception, node: str, run: RunContext[Any]) -> DomainError:
    """The domain error that a node's exception stands for; one of ours that nobody foresaw is logged whole."""
    if isinstance(error, DomainError):
        return error
    log.error("node_failed", node=node, run_id=str(run.request.run_id), exc_info=error)
    return RunFailed()


def merged(state: S, update: Update) -> S:
    """The state after a visit, for a framework that keeps none itself."""
    held: Any = state
    added = {name: [*held[name], *update[name]] for name in ADDED if name in update}
    after: Any = {**held, **update, **added}
    return cast("S", after)


def own_name(node: ModeNode, _: Any) -> str:
    """The agent of events, where every node is an agent of its own."""
    return node.agent


def result_of(state: Mapping[str, Any], run: RunContext[Any], *, hops: int) -> RunResult:
    """What a run ends with; `answered_by`, `transcript` and `failure` mean the same in every mode."""
    failure: DomainError | None = state.get("failure")
    return RunResult(
        answer=run.telling.answer,
        usage=run.usage,
        agent_hops=hops,
        current_agent=state.get("answered_by"),
        tool_messages=tuple(state["transcript"]),
        error_code=failure.code if failure else None,
        calls=tuple(run.calls),
    )
