"""Conversations, their messages and their runs, and the port behind which they are stored.

Every method takes the organization first: there is no query that could cross into another one. `StoreUnavailable` is
raised by all of them when the store does not answer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from runtime_worker.engines.base import RunStatus
from runtime_worker.models.base import ModelMessage

MessageRole = Literal["user", "assistant", "summary"]
"""A summary stands for all messages before it that are compacted, and for the summary before it."""

AnswerStatus = Literal["complete", "partial"]
"""A partial answer is what the user saw of a run that failed or was cancelled."""


class TokenUsage(msgspec.Struct, frozen=True):
    """What a run used. `cost` is in US dollars, None when one of its models has no price; `is_estimated`: a guess."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    is_estimated: bool = False


class RunError(msgspec.Struct, frozen=True):
    """Why a run failed, as the caller was told."""

    code: str
    message: str
    retryable: bool = False


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """`updated_at` is when its last turn began. `message_count` is only filled for whoever looks at conversations.

    What follows it is what a conversation keeps for its next turn. Messages up to `compacted_through` are told by the
    message `summary_id`; what it and the messages after that come to, roughly, is `context_tokens`. `resource_id` is
    what a grounded conversation is about, `anchor` (JSON) what was loaded of it and not there in lists; `last_agent`
    answered last in handoff mode. One that began at the central point `central_id` may go on there with other
    instances.
    """

    conversation_id: UUID
    instance_id: UUID
    user_id: UUID
    title: str
    created_at: datetime
    updated_at: datetime
    message_count: int = 0
    summary_id: UUID | None = None
    compacted_through: UUID | None = None
    context_tokens: int = 0
    resource_id: str | None = None
    anchor: str | None = None
    last_agent: str | None = None
    central_id: UUID | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One visible message. `tool_messages` are the calls and results that led to an answer, in wire order; before the
    user's message that began a conversation, what its caller brought along of an earlier talk.

    `is_compacted`: models get a summary instead of it.
    """

    message_id: UUID
    conversation_id: UUID
    run_id: UUID
    role: MessageRole
    content: str
    created_at: datetime
    tool_messages: tuple[ModelMessage, ...] = ()
    usage: TokenUsage | None = None
    status: AnswerStatus = "complete"
    is_compacted: bool = False


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`message_id` is the answer's once there is one, `answer_id` the id that is set aside for it from the beginning.

    `epoch` counts the workers that have driven the run; of two that store its end, the later one is believed.
    `api_key_id` is the key it was asked for with, None for a session. `usage_entry` is what is counted of it once it
    has ended (`shared.usage`), kept so that whoever finds the run can see that it is.
    """

    run_id: UUID
    conversation_id: UUID
    instance_id: UUID
    user_id: UUID
    config_hash: str
    status: RunStatus
    started_at: datetime
    ended_at: datetime | None = None
    error: RunError | None = None
    usage: TokenUsage | None = None
    last_seq: int = 0
    message_id: UUID | None = None
    answer_id: UUID | None = None
    resource_id: str | None = None
    agent_hops: int = 0
    current_agent: str | None = None
    epoch: int = 1
    api_key_id: UUID | None = None
    usage_entry: bytes | None = None


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as its next turn finds it: `newest` are the last messages that models get to see, oldest first,
    without summaries and what they stand for. At most `window` were read."""

    conversation: Conversation
    newest: Sequence[Message] = ()
    window: int = 0


class TurnStart(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored before a run: its conversation as it is now (new or not), the user's message and the run.

    A new conversation is stored with its first message, and as a row of its own a little later, by `open_conversation`
    or with the end of the run: whoever asks for it before is told all the same.
    `is_moved`: the conversation goes on with another instance than before.
    """

    conversation: Conversation
    is_new: bool
    message: Message
    run: RunRecord
    is_moved: bool = False


class TurnEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored after a run; no answer when the user saw nothing of it.

    `anchor` and `last_agent` are new for the conversation, None when they are as they were. `opens` is the conversation
    when it has no row of its own yet.
    """

    run: RunRecord
    answer: Message | None
    anchor: str | None = None
    last_agent: str | None = None
    opens: Conversation | None = None


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """A summary that from now on stands for the `compacted` messages, oldest first, and for `replaces` before them.

    `context_tokens` is what the conversation comes to with it.
    """

    conversation_id: UUID
    summary: Message
    compacted: Sequence[UUID]
    replaces: UUID | None
    context_tokens: int


class ConversationStore(Protocol):
    async def find_conversation(
        self, org_id: UUID, conversation_id: UUID, *, user_id: UUID | None = None
    ) -> Conversation | None:
        """With `user_id` only theirs; somebody else's is looked for as long as one that is not there."""
        ...

    async def find_thread(self, org_id: UUID, conversation_id: UUID, *, user_id: UUID, window: int) -> Thread | None:
        """A conversation of this user's and its last messages, as they were at one moment."""
        ...

    async def list_conversations(
        self,
        org_id: UUID,
        *,
        user_id: UUID | None,
        instance_id: UUID | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Conversation]:
        """Most recently used first. `after` is (`updated_at`, id) of the last one of the page before."""
        ...

    async def rename(self, org_id: UUID, conversation_id: UUID, title: str) -> None: ...

    async def delete(self, org_id: UUID, conversation_id: UUID) -> None:
        """Remove a conversation with its messages and runs."""
        ...

    async def list_messages(
        self, org_id: UUID, conversation_id: UUID, *, after: UUID | None, limit: int
    ) -> Sequence[Message]:
        """Oldest first."""
        ...

    async def newest_messages(
        self, org_id: UUID, conversation_id: UUID, *, limit: int, before: UUID, after: UUID | None = None
    ) -> Sequence[Message]:
        """The last `limit` messages older than the message `before` and younger than `after`, oldest first, without
        summaries."""
        ...

    async def oldest_messages(
        self, org_id: UUID, conversation_id: UUID, *, limit: int, before: UUID, after: UUID | None
    ) -> Sequence[Message]:
        """The first `limit` of the same."""
        ...

    async def find_message(self, org_id: UUID, conversation_id: UUID, message_id: UUID) -> Message | None: ...

    async def compact(self, org_id: UUID, compaction: Compaction) -> None:
        """When it returns the summary survives a crash of the store; one in between loses nothing."""
        ...

    async def count_messages(self, org_id: UUID, conversation_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """How many messages each conversation has; one without any may be missing."""
        ...

    async def begin_turn(self, org_id: UUID, turn: TurnStart) -> None:
        """When it returns, the message, the run and what is needed to find them survive a crash of the store."""
        ...

    async def withdraw_turn(self, org_id: UUID, run_id: UUID) -> bool:
        """Remove a turn that was refused after all, its message, its run and a conversation that began with it; whether
        there was anything to remove."""
        ...

    async def open_conversation(self, org_id: UUID, conversation: Conversation) -> bool:
        """Give a new conversation a row of its own, so that it is in the list; False: it has one, which stays as it is.
        Safe to repeat. The end of a run that says nothing of it any more makes the row safe."""
        ...

    async def end_turn(self, org_id: UUID, turn: TurnEnd) -> None:
        """As safe as `begin_turn`, and safe to repeat: a second call changes nothing. A run that is stored as ended has
        its answer stored."""
        ...

    async def find_run(self, org_id: UUID, run_id: UUID, *, user_id: UUID | None = None) -> RunRecord | None:
        """A run as it ended, or as it began when its end is not stored. With `user_id` only theirs; somebody else's is
        looked for as long as one that is not there."""
        ...

    async def find_opening(self, org_id: UUID, run_id: UUID) -> Message | None:
        """The user's message that started a run."""
        ...

    async def find_answer(self, org_id: UUID, run: RunRecord) -> Message | None:
        """What is stored of a run's answer."""
        ...

    async def check(self) -> None:
        """Raises StoreUnavailable when nothing can be read or written right now."""
        ...
