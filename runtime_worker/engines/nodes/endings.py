"""Nodes that every mode ends with: the error handler and the suggestion."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from runtime_worker.engines.modes.failures import FIXED_FAILURE_TEXT, describe_failure
from runtime_worker.engines.modes.node import ERROR_HANDLER, SUGGESTION, ModeNode
from runtime_worker.engines.nodes.run import RunContext
from runtime_worker.engines.nodes.visit import Update, failure_of
from runtime_worker.models.base import ModelMessage
from shared.errors import DomainError
from shared.logging import get_logger

log = get_logger(__name__)

N = TypeVar("N", bound=ModeNode)

MAX_SUGGESTION_CHARS = 300


def endings(nodes: type[N]) -> Mapping[N, Callable[[Any, RunContext[Any]], Awaitable[Update]]]:
    """The works of a mode that are every mode's, by its own names for those nodes."""
    return {nodes(ERROR_HANDLER): apologize, nodes(SUGGESTION): suggest}


async def apologize(state: Mapping[str, Any], run: RunContext[Any]) -> Update:
    failure: DomainError = state["failure"]
    parts = run.instance.nodes[ERROR_HANDLER]
    system = parts.system(situation=describe_failure(failure))
    try:
        await run.write(parts, [system, *run.spoken()])
    except Exception as error:  # It is the last that can answer in words, whatever went wrong.
        if run.telling.has_visible_text:
            raise
        code = failure_of(error, ERROR_HANDLER, run).code
        log.warning("error_handler_failed", run_id=str(run.request.run_id), code=code, because_of=failure.code)
        run.telling.writer(ERROR_HANDLER)(FIXED_FAILURE_TEXT)
    return {"answered_by": "error_handler"}


async def suggest(state: Mapping[str, Any], run: RunContext[Any]) -> Update:
    parts = run.instance.nodes[SUGGESTION]
    answered = ModelMessage("assistant", run.telling.answer)
    asked = ModelMessage("user", "Which question could I ask next?")
    try:
        answer = await run.ask(parts, [parts.system(), *run.spoken(), answered, asked])
    except Exception as error:
        # The answer is complete; a missing suggestion is not worth a word to the user, whatever went wrong.
        failure = failure_of(error, SUGGESTION, run)
        log.info("suggestion_failed", run_id=str(run.request.run_id), code=failure.code)
        return {}
    if text := answer.content.strip():
        run.telling.sink.suggestion(text[:MAX_SUGGESTION_CHARS])
    return {}
