"""Conversations in MongoDB, each organization's in a database of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from pymongo import ASCENDING, DESCENDING, AsyncMongoClient
from pymongo.errors import DuplicateKeyError

from runtime_worker.conversations.base import Compaction, Conversation, Message, RunRecord, Thread, TurnEnd, TurnStart
from runtime_worker.conversations.databases import OrganizationDatabases, database_name, translated
from runtime_worker.conversations.documents import (
    ConversationDocument,
    MessageDocument,
    OrganizationDocument,
    RunDocument,
)
from runtime_worker.conversations.group_writes import GroupWrites, Insert, Place, Update, Write
from runtime_worker.conversations.mapping import (
    conversation_in,
    conversation_of,
    conversation_row,
    message_of,
    message_row,
    messages_in,
    run_of,
    run_row,
)
from runtime_worker.conversations.mongo_lines import MongoLines
from runtime_worker.conversations.queries import SAID, between, owned, with_newest


class MongoConversationStore:
    """The client is the caller's, who closes it after the store."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        self._client = client
        self._lines = MongoLines(client)
        self._writes = GroupWrites(self._lines, client.write_concern.document)
        self.databases = OrganizationDatabases(client)
        self._organization = self.databases.work

    async def find_conversation(
        self, org_id: UUID, conversation_id: UUID, *, user_id: UUID | None = None
    ) -> Conversation | None:
        wanted = owned("", conversation_id, user_id)
        async with self._organization(org_id):
            found = await ConversationDocument.find_one(wanted) or await self._reopened(conversation_id, user_id)
        return conversation_of(found) if found else None

    async def find_thread(self, org_id: UUID, conversation_id: UUID, *, user_id: UUID, window: int) -> Thread | None:
        reading = with_newest(conversation_id, user_id, window)
        async with self._organization(org_id):
            # Not by Beanie: it is on the way of every turn but a conversation's first.
            found = await self._lines.read(ConversationDocument.database_name(), reading)
            rows: list[dict[str, Any]] = found["cursor"]["firstBatch"]
            if not rows:
                opened = await self._reopened(conversation_id, user_id)
                return Thread(conversation=conversation_of(opened)) if opened else None
        newest = messages_in(rows[0].pop("newest", []))[::-1]
        conversation = conversation_in(rows[0])
        if (told := conversation.compacted_through) is not None:
            newest = [message for message in newest if message.message_id > told]
        return Thread(conversation=conversation, newest=newest, window=window)

    async def list_conversations(
        self,
        org_id: UUID,
        *,
        user_id: UUID | None,
        instance_id: UUID | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Conversation]:
        query: dict[str, Any] = {}
        if user_id is not None:
            query["user_id"] = user_id
        if instance_id is not None:
            query["instance_id"] = instance_id
        if after is not None:
            updated_at, last_id = after
            query["$or"] = [
                {"updated_at": {"$lt": updated_at}},
                {"updated_at": updated_at, "_id": {"$lt": last_id}},
            ]
        async with self._organization(org_id):
            # Not by Beanie: an anchor may be large, and nobody looks at it in a list.
            found = ConversationDocument.get_pymongo_collection().find(query, {"anchor": 0})
            rows = await found.sort([("updated_at", DESCENDING), ("_id", DESCENDING)]).limit(limit).to_list()
            return [conversation_of(ConversationDocument(**row)) for row in rows]

    async def rename(self, org_id: UUID, conversation_id: UUID, title: str) -> None:
        async with self._organization(org_id):
            await ConversationDocument.find_one({"_id": conversation_id}).update({"$set": {"title": title}})

    async def delete(self, org_id: UUID, conversation_id: UUID) -> None:
        async with self._organization(org_id):
            # The conversation goes last: a deletion that breaks in between can be repeated.
            await MessageDocument.find({"conversation_id": conversation_id}).delete()
            await RunDocument.find({"conversation_id": conversation_id}).delete()
            await ConversationDocument.find({"_id": conversation_id}).delete()

    async def list_messages(
        self, org_id: UUID, conversation_id: UUID, *, after: UUID | None, limit: int
    ) -> Sequence[Message]:
        query: dict[str, Any] = {"conversation_id": conversation_id}
        if after is not None:
            query["_id"] = {"$gt": after}
        async with self._organization(org_id):
            return await self._messages(query, ASCENDING, limit)

    async def newest_messages(
        self, org_id: UUID, conversation_id: UUID, *, limit: int, before: UUID, after: UUID | None = None
    ) -> Sequence[Message]:
        if limit <= 0:
            return []
        async with self._organization(org_id):
            found = await self._messages(between(conversation_id, after, before), DESCENDING, limit)
        return found[::-1]

    async def oldest_messages(
        self, org_id: UUID, conversation_id: UUID, *, limit: int, before: UUID, after: UUID | None
    ) -> Sequence[Message]:
        async with self._organization(org_id):
            return await self._messages(between(conversation_id, after, before), ASCENDING, limit)

    async def find_message(self, org_id: UUID, conversation_id: UUID, message_id: UUID) -> Message | None:
        async with self._organization(org_id):
            found = await MessageDocument.find_one({"_id": message_id, "conversation_id": conversation_id})
        return message_of(found) if found else None

    async def count_messages(self, org_id: UUID, conversation_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        # Counted when somebody looks: a counter would be one more write at both ends of every turn.
        counting: list[dict[str, Any]] = [
            {"$match": {"conversation_id": {"$in": list(conversation_ids)}}},
            {"$group": {"_id": "$conversation_id", "count": {"$sum": 1}}},
        ]
        async with self._organization(org_id):
            found = await MessageDocument.get_pymongo_collection().aggregate(counting)
            return {row["_id"]: row["count"] async for row in found}

    async def begin_turn(self, org_id: UUID, turn: TurnStart) -> None:
        conversation = turn.conversation
        opens = conversation if turn.is_new else None
        message = Insert(message_row(turn.message, starts=turn.run, opens=opens))
        async with self._organization(org_id):
            if turn.is_new:
                # One write: every command costs the driver more than all else that a run does before its first token.
                await self._write(MessageDocument, message)
                return
            changed: dict[str, Any] = {"context_tokens": conversation.context_tokens}
            if turn.is_moved:
                changed |= {name: getattr(conversation, name) for name in ("instance_id", "anchor", "last_agent")}
            change = {"$max": {"updated_at": conversation.updated_at}, "$set": changed}
            touch = Update({"_id": conversation.conversation_id}, change)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(MessageDocument, message))
                group.create_task(self._write_early(ConversationDocument, touch))

    async def withdraw_turn(self, org_id: UUID, run_id: UUID) -> bool:
        async with self._organization(org_id):
            messages, runs = MessageDocument.get_pymongo_collection(), RunDocument.get_pymongo_collection()
            gone = await messages.find_one_and_delete({"starts._id": run_id}, {"opens._id": 1})
            # Somebody may have found the run and ended it.
            await runs.delete_one({"_id": run_id})
            if gone is not None and "opens" in gone:
                await ConversationDocument.get_pymongo_collection().delete_one({"_id": gone["opens"]["_id"]})
            return gone is not None

    async def open_conversation(self, org_id: UUID, conversation: Conversation) -> bool:
        async with self._organization(org_id):
            return await self._open(conversation_row(conversation))

    async def end_turn(self, org_id: UUID, turn: TurnEnd) -> None:
        async with self._organization(org_id):
            kept = {"anchor": turn.anchor, "last_agent": turn.last_agent}
            change = {name: value for name, value in kept.items() if value is not None}
            opened = conversation_row(turn.opens) if turn.opens else {}
            if opened or change:
                touches = {"$set": change} if change else {}
                # What is said of it now is not said of how it began.
                if begun := {name: value for name, value in opened.items() if name not in change and name != "_id"}:
                    touches["$setOnInsert"] = begun
                touch = Update({"_id": turn.run.conversation_id}, touches, upsert=bool(opened))
                with suppress(DuplicateKeyError):  # Opened at the same moment, by somebody who asked for it.
                    await self._write_early(ConversationDocument, touch)
            document, row, epoch = (
                (RunDocument, run_row(turn.run), "epoch")
                if turn.answer is None
                else (MessageDocument, message_row(turn.answer, ends=turn.run), "ends.epoch")
            )
            # Not over what a later epoch has stored: that is another document then, under an id that is taken.
            ours = {"_id": row.pop("_id"), epoch: {"$lte": turn.run.epoch}}
            with suppress(DuplicateKeyError):
                await self._write(document, Update(ours, {"$set": row}, upsert=True))

    async def compact(self, org_id: UUID, compaction: Compaction) -> None:
        summary, conversation_id = compaction.summary, compaction.conversation_id
        change = {
            "summary_id": summary.message_id,
            "compacted_through": compaction.compacted[-1],
            "context_tokens": compaction.context_tokens,
        }
        gone = [*compaction.compacted, *([compaction.replaces] if compaction.replaces else [])]
        async with self._organization(org_id):
            # The flags go last: without them a message is told twice, without the summary it would be forgotten.
            await self._write_early(MessageDocument, Insert(message_row(summary)))
            await self._write(ConversationDocument, Update({"_id": conversation_id}, {"$set": change}))
            flagged = MessageDocument.find({"_id": {"$in": gone}, "conversation_id": conversation_id})
            await flagged.update({"$set": {"is_compacted": True}})

    async def find_run(self, org_id: UUID, run_id: UUID, *, user_id: UUID | None = None) -> RunRecord | None:
        async with self._organization(org_id):
            own = await RunDocument.find_one(owned("", run_id, user_id))
            with_answer = await self._run_in_message("ends", run_id, user_id)
            if own is not None and with_answer is not None:
                # Two workers ended it, and only one of them had an answer to store.
                return run_of(max(own, with_answer, key=lambda run: run.epoch))
            found = own or with_answer or await self._run_in_message("starts", run_id, user_id)
        return run_of(found) if found else None

    async def find_opening(self, org_id: UUID, run_id: UUID) -> Message | None:
        async with self._organization(org_id):
            found = await MessageDocument.find_one({"starts._id": run_id})
        return message_of(found) if found else None

    async def find_answer(self, org_id: UUID, run: RunRecord) -> Message | None:
        if run.answer_id is None:
            return None
        async with self._organization(org_id):
            found = await MessageDocument.get(run.answer_id)
        return message_of(found) if found else None

    def shut(self, org_id: UUID) -> None:
        """From now on an organization that is purged is one that nobody knows: nothing is read or written for it."""
        self.databases.shut(org_id)

    async def run_ids(self, org_id: UUID) -> AsyncIterator[UUID]:
        """Of every run of an organization, whether it has ended or not. Raises PyMongoError."""
        database = self._client[database_name(org_id)]
        async for row in database[RunDocument.collection].find({}, {"_id": 1}):
            yield row["_id"]
        async for row in database[MessageDocument.collection].find({"starts": {"$ne": None}}, {"starts._id": 1}):
            yield row["starts"]["_id"]

    async def ended_run_ids(self, org_id: UUID, *, after: UUID, before: UUID, limit: int) -> Sequence[UUID]:
        """The first `limit` runs that began between two moments and whose end is stored. Raises PyMongoError."""
        database, between = self._client[database_name(org_id)], {"$gt": after, "$lt": before}
        own = database[RunDocument.collection].find({"_id": between}, {"_id": 1}).sort("_id", ASCENDING)
        # By the index alone, where there are millions of messages.
        messages = database[MessageDocument.collection].find({"ends._id": between}, {"_id": 0, "ends._id": 1})
        with_answers = messages.sort("ends._id", ASCENDING)
        found = {row["_id"] for row in await own.limit(limit).to_list()}
        found |= {row["ends"]["_id"] for row in await with_answers.limit(limit).to_list()}
        return sorted(found)[:limit]

    async def drop(self, org_id: UUID) -> None:
        """Remove all that an organization said. Raises PyMongoError."""
        await self._client.drop_database(database_name(org_id))

    async def close(self) -> None:
        """Nothing is asked of it any more."""
        await self._lines.close()

    async def check(self) -> None:
        async with translated():
            await self._client.admin.command("ping")

    async def _messages(self, query: dict[str, Any], order: int, limit: int) -> list[Message]:
        # Not by Beanie: there are many of them, and building its documents takes longer than reading them.
        found = MessageDocument.get_pymongo_collection().find(query, SAID)
        return messages_in(await found.sort("_id", order).limit(limit).to_list())

    async def _run_in_message(self, role: str, run_id: UUID, user_id: UUID | None) -> RunDocument | None:
        # Not by Beanie: of the message only the run is wanted.
        messages = MessageDocument.get_pymongo_collection()
        found = await messages.find_one(owned(f"{role}.", run_id, user_id), {role: 1})
        return RunDocument(**found[role]) if found else None

    async def _open(self, row: dict[str, Any]) -> bool:
        """Whether it was not opened before."""
        with suppress(DuplicateKeyError):
            await self._write_early(ConversationDocument, Insert(row))
            return True
        return False

    async def _reopened(self, conversation_id: UUID, user_id: UUID | None) -> ConversationDocument | None:
        """A conversation whose worker went before it had given it a row, or has not come to it yet."""
        # Not by Beanie: of the message only the conversation is wanted.
        messages = MessageDocument.get_pymongo_collection()
        first = await messages.find_one({"conversation_id": conversation_id, "opens": {"$exists": True}}, {"opens": 1})
        if first is None or user_id not in (None, first["opens"]["user_id"]):
            return None
        await self._open(first["opens"])
        return await ConversationDocument.get(conversation_id)

    async def _write(self, document: type[OrganizationDocument], write: Write) -> None:
        """Returns when the write, and every write that was acknowledged before, survives a crash of the store."""
        await self._writes.write(Place(document.database_name(), document.collection), write)

    async def _write_early(self, document: type[OrganizationDocument], write: Write) -> None:
        """Returns when the primary has the write, in a third of the time that a majority and its journal take.

        Another write has to follow: what a majority has acknowledged includes all that is before it in the primary's
        log, so the wait for the last write of a turn is enough for the turn.
        """
        await self._writes.write(Place(document.database_name(), document.collection, is_early=True), write)
