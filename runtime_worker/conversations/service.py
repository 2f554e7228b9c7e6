"""Reading and tidying conversations: whose they are, and what may be done to them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Conversation, ConversationStore, Message
from runtime_worker.turn.run_locks import RunLocks
from shared.errors import NotFound
from shared.ids import new_id


class ConversationService:
    """`user_id` None sees every conversation of the organization, anybody else only their own."""

    def __init__(self, store: ConversationStore, locks: RunLocks) -> None:
        self._store = store
        self._locks = locks

    async def list(
        self,
        org_id: UUID,
        *,
        user_id: UUID | None,
        instance_id: UUID | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Conversation]:
        found = await self._store.list_conversations(
            org_id, user_id=user_id, instance_id=instance_id, after=after, limit=limit
        )
        return await self._counted(org_id, found)

    async def get(self, org_id: UUID, conversation_id: UUID, *, user_id: UUID | None) -> Conversation:
        """Raises NotFound, also for somebody else's."""
        found = await self._require(org_id, conversation_id, user_id)
        return (await self._counted(org_id, [found]))[0]

    async def rename(self, org_id: UUID, conversation_id: UUID, title: str, *, user_id: UUID | None) -> Conversation:
        found = await self.get(org_id, conversation_id, user_id=user_id)
        await self._store.rename(org_id, conversation_id, title)
        return msgspec.structs.replace(found, title=title)

    async def delete(self, org_id: UUID, conversation_id: UUID, *, user_id: UUID | None) -> None:
        """Raises NotFound, and ConversationBusy during a run, whose answer would come back from the dead."""
        await self._require(org_id, conversation_id, user_id)
        holder = new_id()
        await self._locks.acquire(org_id, conversation_id, holder)
        try:
            await self._store.delete(org_id, conversation_id)
        finally:
            await self._locks.release(org_id, conversation_id, holder)

    async def messages(
        self, org_id: UUID, conversation_id: UUID, *, user_id: UUID | None, after: UUID | None, limit: int
    ) -> Sequence[Message]:
        """Oldest first. Raises NotFound."""
        await self._require(org_id, conversation_id, user_id)
        return await self._store.list_messages(org_id, conversation_id, after=after, limit=limit)

    async def _require(self, org_id: UUID, conversation_id: UUID, user_id: UUID | None) -> Conversation:
        found = await self._store.find_conversation(org_id, conversation_id, user_id=user_id)
        if found is None:
            raise NotFound("no such conversation")
        return found

    async def _counted(self, org_id: UUID, conversations: Sequence[Conversation]) -> Sequence[Conversation]:
        counts = await self._store.count_messages(org_id, [found.conversation_id for found in conversations])
        return [
            msgspec.structs.replace(found, message_count=counts.get(found.conversation_id, 0))
            for found in conversations
        ]
