"""Compaction: what no longer fits into a model's view of a conversation is summarised, once, by a model.

The summary becomes a message of its own; what it stands for is marked and stays. The next compaction builds on it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Compaction, Conversation, ConversationStore, Message
from runtime_worker.engines.base import RunRequest
from runtime_worker.engines.choices import choose
from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.engines.nodes.run import counted
from runtime_worker.models.base import ModelMessage
from runtime_worker.pool.entry import Lease
from runtime_worker.turn.history import (
    CHARS_PER_TOKEN,
    newest_that_fit,
    on_the_wire,
    recalled,
    tokens_of,
    tokens_of_summary,
    told,
)
from runtime_worker.turn.run import Run
from shared.errors import DomainError, ModelProtocolError
from shared.ids import new_id
from shared.logging import get_logger
from shared.prompts import DEFAULT_PROMPTS, as_data

NODE = "autocompact"
KEPT_SHARE = 0.5
"""Of `max_context_window`, how much is left to the newest messages, word for word. The rest is room for the summary and
for the turns until the next compaction."""

READ_SHARE = 2
"""How much one summary is made of. A conversation is compacted when it is just over its window: one call is enough."""

SUMMARY_SHARE = 0.25
"""The longest a summary may be kept, so that summaries of summaries cannot fill the window by themselves."""

MAX_PART_CHARS = 8_000
"""Of one message or tool result as the summarising model sees it."""

MAX_MESSAGES = 100
"""Read at once. More that is waiting, of a conversation that was never compacted, is summarised step by step."""

log = get_logger(__name__)


class Overflow(msgspec.Struct, frozen=True):
    """A conversation that has outgrown its window: as it was, its newest messages, and the turn's own message.

    `summary_ids` are for what is written before the answer, whose id is set aside when the turn begins: messages are
    told in the order of their ids.
    """

    conversation: Conversation
    summary: Message | None
    newest: Sequence[Message]
    asked: Message
    summary_ids: tuple[UUID, ...]


class Compactor:
    """Belongs to the worker; everything about one compaction comes with the run."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store

    async def fit(self, run: Run, lease: Lease, request: RunRequest, overflow: Overflow) -> RunRequest:
        """The request with a summary in place of older messages. The turn goes on whatever happens here: what could
        not be summarised is left out of what the model sees, as it would be without compaction.
        """
        max_tokens = lease.config.mode_config.max_context_window
        kept = _from_a_question(newest_that_fit(overflow.newest, max_tokens=int(max_tokens * KEPT_SHARE)))
        written: list[Message] = []
        run.stream.agent_start(NODE, NODE)
        try:
            await self._compact(run, lease, request, overflow, kept, written)
        except DomainError as error:
            log.warning("compaction_failed", run_id=str(run.run_id), org_id=str(run.org_id), code=error.code)
        finally:
            run.stream.agent_end(NODE, NODE)
        if not written:
            return request
        return msgspec.structs.replace(request, history=recalled(kept, summary=written[-1], max_tokens=max_tokens))

    async def _compact(
        self,
        run: Run,
        lease: Lease,
        request: RunRequest,
        overflow: Overflow,
        kept: Sequence[Message],
        written: list[Message],
    ) -> None:
        """Summarise all that is older than `kept`, oldest first, each summary building on the one before it.

        `written` gets those that are stored, so that a step that fails takes nothing from the steps before.
        """
        parts = _parts(lease)
        max_tokens = lease.config.mode_config.max_context_window
        before = kept[0].message_id if kept else overflow.asked.message_id
        through, summary = overflow.conversation.compacted_through, overflow.summary
        ids = iter(overflow.summary_ids)
        while messages := await self._store.oldest_messages(
            run.org_id, run.conversation_id, limit=MAX_MESSAGES, before=before, after=through
        ):
            chunk = _first_that_fit(messages, max_tokens=max_tokens * READ_SHARE)
            text = await self._summarise(run, request, parts, summary, chunk)
            # As old as what it tells, so that what has to be forgotten in time is forgotten there as well.
            text = text[: int(max_tokens * SUMMARY_SHARE) * CHARS_PER_TOKEN]
            summary_id = next(ids, None)
            following = _summary(run, summary_id or new_id(), chunk[-1].created_at, text)
            # As a tool would: a turn that could not be stored must leave nothing behind.
            await run.stream.recorded()
            await self._store.compact(
                run.org_id,
                Compaction(
                    conversation_id=run.conversation_id,
                    summary=following,
                    compacted=[message.message_id for message in chunk],
                    replaces=summary.message_id if summary else None,
                    context_tokens=tokens_of_summary(following) + tokens_of(*kept, overflow.asked),
                ),
            )
            written.append(following)
            summary, through = following, chunk[-1].message_id

    async def _summarise(
        self, run: Run, request: RunRequest, parts: NodeParts, summary: Message | None, messages: Iterable[Message]
    ) -> str:
        """Raises a ModelError."""
        earlier = [told(summary).content] if summary else []
        said = as_data("conversation", "\n\n".join(line for message in messages for line in _lines(message)))
        seconds_left = request.deadline - asyncio.get_running_loop().time()
        call = parts.request(
            [parts.system(), ModelMessage("user", "\n\n".join([*earlier, said]))],
            timeout_seconds=max(0.0, min(parts.timeout_seconds, seconds_left)),
        )
        answer = await counted(parts, call, None, run.own_calls)
        if not (text := answer.content.strip()):
            raise ModelProtocolError("the model wrote no summary")
        return text


def _summary(run: Run, message_id: UUID, created_at: datetime, text: str) -> Message:
    return Message(
        message_id=message_id,
        conversation_id=run.conversation_id,
        run_id=run.run_id,
        role="summary",
        content=text,
        created_at=created_at,
    )


def _parts(lease: Lease) -> NodeParts:
    """Raises OrchestratorBuildFailed."""
    snapshot, config = lease.snapshot, lease.config
    override = config.mode_config.autocompact
    return NodeParts(
        node=NODE,
        model=choose(snapshot, config, override, lease.models),
        prompt=override.prompt_override or DEFAULT_PROMPTS[snapshot.mode][NODE],
        values={},
        timeout_seconds=override.timeout or config.mode_config.node_execution_timeout,
    )


def _from_a_question(messages: Sequence[Message]) -> Sequence[Message]:
    """Without an answer at the start whose question is not there."""
    first = next((i for i, message in enumerate(messages) if message.role == "user"), len(messages))
    return messages[first:]


def _first_that_fit(messages: Sequence[Message], *, max_tokens: int) -> Sequence[Message]:
    """The oldest messages that one call can take, one of them at least: a part that is too long is cut."""
    tokens = 0
    for count, message in enumerate(messages):
        tokens += sum(len(line) for line in _lines(message)) // CHARS_PER_TOKEN
        if tokens > max_tokens and count:
            return messages[:count]
    return messages


def _lines(message: Message) -> Iterable[str]:
    """A message as the summarising model reads it."""
    for part in on_the_wire(message):
        for call in part.tool_calls:
            yield f"assistant used {call.name} with {_cut(call.arguments)}"
        if part.content:
            yield f"{'tool result' if part.role == 'tool' else part.role}: {_cut(part.content)}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_PART_CHARS else text[:MAX_PART_CHARS] + " …"
