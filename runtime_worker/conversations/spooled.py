"""The spool of events in MongoDB: one document per run, in the database of its organization.

A document has the events that were told of a run while they could not reach Redis for certain, and the newest epoch
that is known here. An older one can add nothing: its write finds no document it may change and an id that is taken.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pymongo
from pymongo import IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError

from runtime_worker.conversations.databases import OrganizationDatabases
from runtime_worker.conversations.documents import Collection, OrganizationDatabase
from runtime_worker.stream.spool import RunEpoch, Spooled

COLLECTION = "spooled_events"
KEEP_SECONDS = 3600
"""When nobody has removed it before. What it says of epochs is of no use any more by then."""

_INDEX = IndexModel([("expires_at", pymongo.ASCENDING)], expireAfterSeconds=0)
_DUPLICATE_KEY = 11000


class MongoEventSpool:
    """Implements `EventSpool`. There is no collection in a database in which nothing was ever spooled."""

    def __init__(self, databases: OrganizationDatabases) -> None:
        self._databases = databases
        self._indexed: set[UUID] = set()

    async def keep(self, org_id: UUID, events: Mapping[RunEpoch, Sequence[Spooled]]) -> set[UUID]:
        """Raises StoreUnavailable, and NotFound for an organization that is being purged."""
        async with self._databases.work(org_id) as database:
            collection = await self._collection(org_id, database)
            runs = list(events)
            writes = [
                UpdateOne(
                    {"_id": run.run_id, "epoch": {"$lte": run.epoch}},
                    {
                        "$set": {"epoch": run.epoch, "expires_at": _expiry()},
                        "$push": {"told": {"$each": [[told.events, told.is_last] for told in events[run]]}},
                    },
                    upsert=True,
                )
                for run in runs
            ]
            try:
                await collection.bulk_write(writes, ordered=False)
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                if any(failure["code"] != _DUPLICATE_KEY for failure in failed):
                    raise
                return {runs[failure["index"]].run_id for failure in failed}
            return set()

    async def close(self, org_id: UUID, run: RunEpoch) -> Sequence[Spooled]:
        """Raises what `keep` raises."""
        async with self._databases.work(org_id) as database:
            collection = await self._collection(org_id, database)
            found = await collection.find_one_and_update(
                {"_id": run.run_id},
                {"$max": {"epoch": run.epoch}, "$set": {"expires_at": _expiry()}},
                upsert=True,
                return_document=ReturnDocument.BEFORE,
            )
            return [Spooled(bytes(events), is_last) for events, is_last in (found or {}).get("told", ())]

    async def forget(self, org_id: UUID, runs: Sequence[RunEpoch]) -> None:
        """Raises what `keep` raises."""
        async with self._databases.work(org_id) as database:
            collection = database.collection(COLLECTION)
            ours = [{"_id": run.run_id, "epoch": run.epoch} for run in runs]
            # Not the document: that a later epoch has the run is to be known for as long as anybody may ask.
            await collection.update_many({"$or": ours}, {"$unset": {"told": ""}})

    async def _collection(self, org_id: UUID, database: OrganizationDatabase) -> Collection:
        collection = database.collection(COLLECTION)
        if org_id not in self._indexed:
            await collection.create_indexes([_INDEX])
            self._indexed.add(org_id)
        return collection


def _expiry() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=KEEP_SECONDS)
