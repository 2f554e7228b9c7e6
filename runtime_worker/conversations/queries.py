"""What MongoDB is asked for."""

from typing import Any
from uuid import UUID

from pymongo import DESCENDING

from runtime_worker.conversations.documents import ConversationDocument, MessageDocument

SAID = {"starts": 0, "opens": 0, "ends": 0}
"""Of messages: what is stored with them of runs is as long as they are, and whoever reads them does not look at it."""


def owned(prefix: str, row_id: UUID, user_id: UUID | None) -> dict[str, Any]:
    """What has the id, and is the user's if one is named."""
    wanted: dict[str, Any] = {f"{prefix}_id": row_id}
    return wanted if user_id is None else {**wanted, f"{prefix}user_id": user_id}


def between(conversation_id: UUID, after: UUID | None, before: UUID) -> dict[str, Any]:
    """What was said between two messages."""
    ids = {"$lt": before} if after is None else {"$gt": after, "$lt": before}
    return {"conversation_id": conversation_id, "_id": ids, "role": {"$ne": "summary"}}


def with_newest(conversation_id: UUID, user_id: UUID, limit: int) -> dict[str, Any]:
    """A conversation of the user's and, as `newest`, the last `limit` messages of it, the newest first; all as of one
    moment.

    From the conversation to its messages: of somebody else's none is looked at, and a refusal takes as long as for one
    that is not there.
    """
    found: list[dict[str, Any]] = [{"$match": owned("", conversation_id, user_id)}]
    if limit:
        said = [
            {"$match": {"conversation_id": conversation_id, "role": {"$ne": "summary"}}},
            {"$sort": {"_id": DESCENDING}},
            {"$limit": limit},
            {"$project": SAID},
        ]
        found.append({"$lookup": {"from": MessageDocument.collection, "pipeline": said, "as": "newest"}})
    return {
        "aggregate": ConversationDocument.collection,
        "pipeline": found,
        "cursor": {},
        "readConcern": {"level": "snapshot"},
    }
