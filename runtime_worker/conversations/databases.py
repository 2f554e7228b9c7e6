"""The organizations' databases in MongoDB, `cadence_<org id without dashes>`, each made ready when it is first used."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from beanie import init_beanie
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, PyMongoError

from runtime_worker.conversations.documents import DOCUMENTS, OrganizationDatabase, in_database
from runtime_worker.conversations.mongo_line import NOT_PRIMARY
from shared.errors import NotFound, StoreUnavailable

CONNECT_MS = 2_000
OPERATION_MS = 2_500


def mongo_client(url: str) -> AsyncMongoClient[dict[str, Any]]:
    """A client that gives up quickly: a chat request is better told 503 than left hanging."""
    return AsyncMongoClient(
        url,
        uuidRepresentation="standard",
        tz_aware=True,
        serverSelectionTimeoutMS=CONNECT_MS,
        connectTimeoutMS=CONNECT_MS,
        timeoutMS=OPERATION_MS,
        appname="cadence-runtime-worker",
    )


def database_name(org_id: UUID) -> str:
    return f"cadence_{org_id.hex}"


class OrganizationDatabases:
    """Remembers which have their indexes; the client is the caller's."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        self._client = client
        self._is_initialised = False
        self._databases: dict[UUID, OrganizationDatabase] = {}
        self._shut: set[UUID] = set()
        self._preparing: dict[UUID | None, asyncio.Task[None]] = {}

    def shut(self, org_id: UUID) -> None:
        """From now on it is the database of an organization that nobody knows."""
        self._shut.add(org_id)
        self._databases.pop(org_id, None)

    def work(self, org_id: UUID) -> "_Work":
        """Work in the organization's database, its indexes made sure of; driver errors become StoreUnavailable.

        Raises NotFound for one that is shut.
        """
        return _Work(self, org_id)

    async def ready(self, org_id: UUID) -> OrganizationDatabase:
        """Raises NotFound for one that is shut, PyMongoError."""
        if org_id in self._shut:
            raise NotFound
        return self._databases.get(org_id) or await self._prepare(org_id)

    async def _prepare(self, org_id: UUID) -> OrganizationDatabase:
        database = OrganizationDatabase(self._client[database_name(org_id)])
        if not self._is_initialised:
            await self._together(None, lambda: self._initialise(database))
        await self._together(org_id, lambda: self._create_indexes(org_id, database))
        return self._databases[org_id]

    async def _initialise(self, database: OrganizationDatabase) -> None:
        with in_database(database):
            await init_beanie(database=database.database, document_models=list(DOCUMENTS), skip_indexes=True)
        self._is_initialised = True

    async def _create_indexes(self, org_id: UUID, database: OrganizationDatabase) -> None:
        for document in DOCUMENTS:
            await database.collection(document.collection).create_indexes(document.indexes)
        self._databases[org_id] = database

    async def _together(self, what: UUID | None, prepare: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Whoever comes while it is under way takes its outcome: one that made an attempt of its own after each that
        failed would wait, while MongoDB hangs, longer with everyone before it."""
        attempt = self._preparing.get(what)
        if attempt is None:
            attempt = self._preparing[what] = asyncio.create_task(prepare())
            attempt.add_done_callback(lambda _: self._preparing.pop(what))
        # One caller that leaves must not take the attempt from the others.
        await asyncio.shield(attempt)


class translated:  # noqa: N801 - used like a function
    """Driver errors become StoreUnavailable where the store is away."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        _retell(error)


class _Work:
    """Several times in every run, so no generators: those cost as much as all that happens here."""

    def __init__(self, databases: OrganizationDatabases, org_id: UUID) -> None:
        self._databases = databases
        self._org_id = org_id

    async def __aenter__(self) -> OrganizationDatabase:
        try:
            self._inside = in_database(await self._databases.ready(self._org_id))
        except PyMongoError as error:
            raise _translate(error) from error
        return self._inside.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._inside.__exit__()
        _retell(error)


def _retell(error: BaseException | None) -> None:
    if isinstance(error, PyMongoError):
        raise _translate(error) from error
    if isinstance(error, ExceptionGroup):
        # Of writes made together; they fail for one reason, so the first tells it.
        raise _translate(error.exceptions[0]) from error


def _translate(error: Exception) -> Exception:
    is_away = isinstance(error, ConnectionFailure) or (
        isinstance(error, PyMongoError) and (error.timeout or getattr(error, "code", None) in NOT_PRIMARY)
    )
    return StoreUnavailable("conversations cannot be read or written right now") if is_away else error
