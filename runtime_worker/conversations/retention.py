"""Forgetting in time: TTL indexes in each organization's database, kept at what its setting says.

MongoDB does the deleting, once a minute. A worker looks after the organizations that placement gives it; it learns
their settings by asking, so that nothing depends on an event or on somebody chatting.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from runtime_worker.conversations.databases import database_name
from runtime_worker.conversations.documents import ConversationDocument, MessageDocument, RunDocument
from shared.errors import DomainError
from shared.logging import get_logger
from shared.retention import RetentionPage

CHECK_SECONDS = 600.0
"""How late a changed setting may take effect. The shortest retention is a day."""

PAGE_SIZE = 500
INDEX = "retention"
DAY_SECONDS = 24 * 3600
INDEX_SECONDS = 600.0
"""How long making an index may take. Nobody waits for it, and a large collection takes its time."""

# What a document's age is counted from: a conversation's last turn, a message, the start of a run.
_AGES = {
    ConversationDocument.collection: "updated_at",
    MessageDocument.collection: "created_at",
    RunDocument.collection: "started_at",
}

RetentionSource = Callable[[UUID | None, int], Awaitable[RetentionPage]]
"""`(after, limit)` → a page of organizations. Raises StoreUnavailable."""

log = get_logger(__name__)


class Retention:
    """`owns` tells whether this worker is the one that looks after an organization."""

    def __init__(
        self, client: AsyncMongoClient[dict[str, Any]], source: RetentionSource, owns: Callable[[UUID], bool]
    ) -> None:
        self._client = client
        self._source = source
        self._owns = owns
        self._kept_forever: set[UUID] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.apply_all()
            # A control plane that is older than this worker does not know the question.
            except (DomainError, PyMongoError) as error:
                log.warning("retention_not_checked", reason=type(error).__name__)
            await asyncio.sleep(CHECK_SECONDS)

    async def apply_all(self) -> None:
        """Bring every organization of this worker's to its setting. Raises DomainError and PyMongoError."""
        after: UUID | None = None
        while True:
            page = await self._source(after, PAGE_SIZE)
            for organization in page.organizations:
                if self._owns(organization.org_id):
                    with pymongo.timeout(INDEX_SECONDS):
                        await self._apply(organization.org_id, organization.retention_days)
                else:
                    # Whoever looks after it now may have changed it.
                    self._kept_forever.discard(organization.org_id)
            if page.next_after is None:
                return
            after = page.next_after

    async def _apply(self, org_id: UUID, days: int | None) -> None:
        """Looks at the indexes each time, because a database may be new; only what is kept for ever stays so."""
        if days is None and org_id in self._kept_forever:
            return
        database = self._client[database_name(org_id)]
        for name in await database.list_collection_names(filter={"name": {"$in": list(_AGES)}}):
            indexes = await database[name].index_information()
            now, wanted = indexes.get(INDEX, {}).get("expireAfterSeconds"), days and days * DAY_SECONDS
            if now == wanted:
                continue
            if wanted is None:
                await database[name].drop_index(INDEX)
            elif now is None:
                await database[name].create_index(_AGES[name], name=INDEX, expireAfterSeconds=wanted)
            else:
                await database.command("collMod", name, index={"name": INDEX, "expireAfterSeconds": wanted})
            log.info("retention_changed", org_id=str(org_id), collection=name, days=days)
        if days is None:
            self._kept_forever.add(org_id)
        else:
            self._kept_forever.discard(org_id)
