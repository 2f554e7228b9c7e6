"""Rounds of tool calls, as messages: the reply that asked for them and what they brought."""

from collections.abc import Sequence
from typing import Any

from runtime_worker.engines.nodes.run import RunContext
from runtime_worker.engines.tool_calls import ToolRound, with_own_ids
from runtime_worker.engines.toolbox import Toolbox
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelToolCall
from runtime_worker.plugins.base import ToolOutcome


def asked_for(
    run: RunContext[Any], answer: ModelAnswer, calls: Sequence[ModelToolCall], transcript: Sequence[ModelMessage]
) -> tuple[ModelMessage, tuple[ModelToolCall, ...]]:
    """A model's reply with those of its calls that are made, their ids unique within what models see of the
    conversation."""
    taken = {message.tool_call_id for message in (*run.history, *transcript) if message.tool_call_id}
    own = with_own_ids(calls, taken)
    return ModelMessage("assistant", answer.content, own), own


def results(calls: Sequence[ModelToolCall], contents: Sequence[str]) -> list[ModelMessage]:
    return [ModelMessage("tool", content, tool_call_id=call.id) for call, content in zip(calls, contents, strict=True)]


async def run_round(
    run: RunContext[Any], toolbox: Toolbox, calls: Sequence[ModelToolCall], **entering: Any
) -> list[ToolOutcome]:
    """Run the calls. `entering` (`node`, `agents`, `refusal`) is for modes whose plugins are no agents of their own."""
    round_ = ToolRound(
        calls=calls,
        toolbox=toolbox,
        in_parallel=run.instance.calls_in_parallel,
        timeout_seconds=run.instance.tool_timeout_seconds,
        **entering,
    )
    return await run.make_calls(round_)
