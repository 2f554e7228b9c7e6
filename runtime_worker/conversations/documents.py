"""How conversations look in MongoDB: three collections in a database of each organization's own.

Beanie binds a document class to one database when it is initialised. Ours take theirs from the context instead, which
`in_database` sets for the length of one store call. Outside of such a call there is no database at all, so a query that
forgets its organization fails instead of finding somebody else's rows.
"""

from contextvars import ContextVar
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from beanie import Document
from pydantic import Field
from pymongo import DESCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

Database = AsyncDatabase[dict[str, Any]]
Collection = AsyncCollection[dict[str, Any]]


class OrganizationDatabase:
    """One organization's database. Its collections are made once: PyMongo makes a new object every time it is asked,
    which costs as much as encoding what is written."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._collections: dict[str, Collection] = {}

    def collection(self, name: str) -> Collection:
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = self.database[name]
        return found


_database: ContextVar[OrganizationDatabase] = ContextVar("organization_database")


class in_database:  # noqa: N801 - used like a function
    """Let the documents below read and write this database, in this task, until the block ends."""

    def __init__(self, database: OrganizationDatabase) -> None:
        self._inner = database

    def __enter__(self) -> OrganizationDatabase:
        self._token = _database.set(self._inner)
        return self._inner

    def __exit__(self, *_: object) -> None:
        _database.reset(self._token)


class OrganizationDocument(Document):
    """A document of whichever organization's database the current call works in."""

    id: UUID  # type: ignore[assignment]  # how Beanie has a document choose the type of its id
    collection: ClassVar[str]
    indexes: ClassVar[list[IndexModel]] = []

    @classmethod
    def get_pymongo_collection(cls) -> Collection:
        """Raises LookupError outside of `in_database`."""
        return _database.get().collection(cls.collection)

    @classmethod
    def database_name(cls) -> str:
        """Raises LookupError outside of `in_database`."""
        return _database.get().database.name


class ConversationDocument(OrganizationDocument):
    instance_id: UUID
    user_id: UUID
    title: str
    created_at: datetime
    updated_at: datetime
    summary_id: UUID | None = None
    compacted_through: UUID | None = None
    context_tokens: int = 0
    resource_id: str | None = None
    anchor: str | None = None
    last_agent: str | None = None
    central_id: UUID | None = None

    collection: ClassVar[str] = "conversations"
    indexes: ClassVar[list[IndexModel]] = [
        IndexModel([*fields, ("updated_at", DESCENDING), ("_id", DESCENDING)])
        for fields in ([], [("user_id", 1)], [("instance_id", 1)], [("user_id", 1), ("instance_id", 1)])
    ]

    class Settings:
        name = "conversations"


class MessageDocument(OrganizationDocument):
    """The id is a UUIDv7, so the order of ids is the order of the conversation.

    A user's message carries the run it started in `starts`, and the conversation that began with it in `opens`, so that
    all of them are stored in one write. The conversation gets a document of its own soon after. An answer carries the
    run that ended with it in `ends`, for the same reason; only a run without an answer has a document of its own.
    """

    conversation_id: UUID
    run_id: UUID
    role: str
    content: str
    created_at: datetime
    tool_messages: list[dict[str, Any]] = Field(default_factory=list)
    usage: dict[str, Any] | None = None
    status: str = "complete"
    is_compacted: bool = False
    starts: dict[str, Any] | None = None
    opens: dict[str, Any] | None = None
    ends: dict[str, Any] | None = None

    collection: ClassVar[str] = "messages"
    indexes: ClassVar[list[IndexModel]] = [
        IndexModel([("conversation_id", 1), ("_id", 1)]),
        *(
            IndexModel([(f"{role}._id", 1)], partialFilterExpression={f"{role}._id": {"$exists": True}})
            for role in ("starts", "ends")
        ),
    ]

    class Settings:
        name = "messages"


class RunDocument(OrganizationDocument):
    conversation_id: UUID
    instance_id: UUID
    user_id: UUID
    config_hash: str
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    last_seq: int = 0
    message_id: UUID | None = None
    answer_id: UUID | None = None
    resource_id: str | None = None
    agent_hops: int = 0
    current_agent: str | None = None
    epoch: int = 1
    api_key_id: UUID | None = None
    usage_entry: bytes | None = None

    collection: ClassVar[str] = "runs"
    indexes: ClassVar[list[IndexModel]] = [IndexModel([("conversation_id", 1), ("_id", 1)])]

    class Settings:
        name = "runs"


DOCUMENTS: tuple[type[OrganizationDocument], ...] = (ConversationDocument, MessageDocument, RunDocument)
