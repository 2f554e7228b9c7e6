"""What goes to MongoDB past the driver is answered as the driver would have it, and done once."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from bson.errors import InvalidDocument
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    NetworkTimeout,
    OperationFailure,
)

from deploy.local.server import Server
from runtime_worker.conversations import mongo_lines
from runtime_worker.conversations.databases import mongo_client
from runtime_worker.conversations.group_writes import GroupWrites, Insert, Place, Update
from runtime_worker.conversations.mongo_lines import LINES, MongoLines
from tests.fakes.tcp_proxy import TcpProxy, tcp_proxy

Client = AsyncMongoClient[dict[str, Any]]


class Wired:
    """Lines that lead through a wire, and a driver that has a wire of its own."""

    def __init__(self, proxy: TcpProxy, lines: MongoLines, direct: Client) -> None:
        self.proxy = proxy
        self.lines = lines
        self.database = direct[f"lines_{uuid4().hex}"]
        self.rows = self.database["rows"]
        self.place = Place(self.database.name, "rows")
        self.writes = GroupWrites(lines, {})

    async def read(self, **query: Any) -> list[dict[str, Any]]:
        answer = await self.lines.read(self.database.name, {"find": "rows", "filter": query, "sort": {"_id": 1}})
        rows: list[dict[str, Any]] = answer["cursor"]["firstBatch"]
        return rows


@pytest.fixture
async def wired(mongo_url: str) -> AsyncIterator[Wired]:
    async with tcp_proxy(mongo_url) as (proxy, url), mongo_client(url) as client, mongo_client(mongo_url) as direct:
        lines = MongoLines(client)
        wired = Wired(proxy, lines, direct)
        yield wired
        await lines.close()
        await direct.drop_database(wired.database.name)


async def test_rows_are_read_as_they_were_written(wired: Wired) -> None:
    row = {"_id": uuid4(), "text": "naïve 🧭", "none": None, "many": [1, 2.5, {"deep": True}], "bytes": b"\x00\xff"}
    await wired.writes.write(wired.place, Insert(row))

    assert await wired.read() == [row] == [await wired.rows.find_one()]


async def test_writes_of_one_moment_share_a_command_and_each_has_its_own_outcome(wired: Wired) -> None:
    await wired.rows.insert_one({"_id": 1})
    updates = [Update({"_id": 2}, {"$set": {"a": number}}, upsert=True) for number in range(3)]
    inserts = [Insert({"_id": number}) for number in (1, 3, 4, 5)]
    refused = Update({"_id": 1}, {"$nonsense": 1})
    all_of_them: list[Insert | Update] = [*inserts, *updates, refused]
    writing = [wired.writes.write(wired.place, write) for write in all_of_them]
    outcomes = await asyncio.gather(*writing, return_exceptions=True)

    assert isinstance(outcomes[0], DuplicateKeyError)
    assert isinstance(outcomes[-1], OperationFailure)
    assert outcomes[1:-1] == [None] * 6
    assert [row["_id"] async for row in wired.rows.find()] == [1, 3, 4, 5, 2]


async def test_what_cannot_be_written_is_refused_to_its_caller_alone(wired: Wired) -> None:
    rows: list[dict[str, Any]] = [{"_id": 1}, {"_id": object()}, {"_id": 2, "much": "x" * 16 * 1024 * 1024}, {"_id": 3}]
    writing = [wired.writes.write(wired.place, Insert(row)) for row in rows]
    outcomes = await asyncio.gather(*writing, return_exceptions=True)

    assert isinstance(outcomes[1], InvalidDocument)
    assert isinstance(outcomes[2], DocumentTooLarge)
    assert [row["_id"] for row in await wired.read()] == [1, 3]


async def test_rows_that_no_message_has_room_for_together_are_written(wired: Wired) -> None:
    rows = [{"_id": number, "much": "x" * 15_000_000} for number in range(5)]
    await asyncio.gather(*(wired.writes.write(wired.place, Insert(row)) for row in rows))

    assert await wired.rows.count_documents({}) == 5


async def test_an_error_is_the_drivers_and_leaves_the_connection_alone(wired: Wired) -> None:
    await wired.read()
    connections = wired.proxy.connections
    with pytest.raises(OperationFailure, match="unknown operator"):
        await wired.read(a={"$nonsense": 1})

    assert await wired.read() == []
    assert wired.proxy.connections == connections


async def test_who_stops_waiting_leaves_no_answer_to_the_next(wired: Wired) -> None:
    await wired.rows.insert_many([{"_id": number} for number in range(100)])
    for _ in range(5):
        leaving = [asyncio.ensure_future(wired.read(_id=number)) for number in range(50)]
        await asyncio.sleep(0.001)
        for task in leaving:
            task.cancel()
        staying = [wired.read(_id=number) for number in range(50, 100)]
        assert await asyncio.gather(*staying) == [[{"_id": number}] for number in range(50, 100)]
    # Those that were left with an answer to come are gone.
    assert len(wired.lines._keepers) == len(wired.lines._idle)


async def test_connections_are_used_again_and_are_never_more_than_allowed(wired: Wired) -> None:
    await wired.read()
    before = wired.proxy.connections
    for _ in range(20):
        await wired.read()
    assert wired.proxy.connections == before
    await asyncio.gather(*(wired.read() for _ in range(LINES * 5)))
    assert wired.proxy.connections < before + LINES


async def test_a_write_whose_answer_was_lost_is_not_done_twice(wired: Wired) -> None:
    count = Update({"_id": 1}, {"$inc": {"times": 1}}, upsert=True)
    await wired.writes.write(wired.place, count)
    wired.proxy.lose_answers()
    writing = asyncio.ensure_future(wired.writes.write(wired.place, count))
    async with asyncio.timeout(5):
        while await wired.rows.find_one() != {"_id": 1, "times": 2}:
            await asyncio.sleep(0.01)
    await wired.proxy.cut()
    await wired.proxy.mend()
    await writing

    assert await wired.rows.find_one() == {"_id": 1, "times": 2}
    await wired.writes.write(wired.place, count)
    assert await wired.rows.find_one() == {"_id": 1, "times": 3}


async def test_a_connection_that_broke_costs_nobody_an_answer(wired: Wired) -> None:
    await asyncio.gather(*(wired.read() for _ in range(10)))
    # Nobody asks while it breaks.
    await wired.proxy.cut()
    await wired.proxy.mend()
    assert await wired.read() == []

    await wired.proxy.cut()
    with pytest.raises(ConnectionFailure):
        await wired.read()
    await wired.proxy.mend()
    assert await wired.read() == []


async def test_a_server_that_hangs_is_waited_for_a_moment_and_no_longer(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_lines, "ANSWER_SECONDS", 0.5)
    await wired.read()
    wired.proxy.freeze()
    asked = [wired.read(), wired.writes.write(wired.place, Insert({"_id": 1}))]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(outcome, NetworkTimeout) for outcome in outcomes)

    wired.proxy.thaw()
    await wired.writes.write(wired.place, Insert({"_id": 2}))
    assert (await wired.read())[-1] == {"_id": 2}


@pytest.mark.parametrize("nonsense", [b"\x10\x00\x00\x00" * 8, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64])
async def test_a_server_that_talks_nonsense_is_not_listened_to(wired: Wired, nonsense: bytes) -> None:
    await wired.read()
    line = wired.lines._idle[0]
    asked = asyncio.ensure_future(line.ask(wired.lines.encoded({"ping": 1})))
    await asyncio.sleep(0)
    line.data_received(nonsense)

    with pytest.raises(AutoReconnect):
        await asked
    assert await wired.read() == []


@pytest.mark.parametrize(
    "refusal",
    [
        {"ok": 0, "code": 10107, "errmsg": "not primary"},
        {"ok": 1, "errorLabels": ["RetryableWriteError"], "writeConcernError": {"code": 91, "errmsg": "leaving"}},
    ],
)
async def test_a_server_that_is_no_longer_the_primary_is_left_and_what_was_asked_is_asked_again(
    wired: Wired, refusal: dict[str, Any]
) -> None:
    await wired.read()
    (line,) = wired.lines._idle
    # The driver believes no server that it has newer word of, and so does not look for another one here.
    version = (await wired.database.client.admin.command("hello"))["topologyVersion"]
    document = wired.lines.encoded(refusal | {"topologyVersion": version})
    writing = asyncio.ensure_future(wired.writes.write(wired.place, Insert({"_id": 1})))
    while line._answer is None:
        await asyncio.sleep(0)
    line.data_received(struct.pack("<iiiiIb", 21 + len(document), 9, line._last_request, 2013, 0, 0) + document)
    await writing

    assert line.ended.done()
    assert await wired.rows.find_one() == {"_id": 1}


async def test_when_the_primary_steps_down_writes_fail_and_go_on_when_there_is_one_again(private_mongo: Server) -> None:
    async with mongo_client(private_mongo.url) as client:
        lines = MongoLines(client)
        writes, rows = GroupWrites(lines, {}), client["lines"]["rows"]
        written, failed = 0, 0
        await writes.write(Place("lines", "rows"), Insert({"_id": 0}))
        await client.admin.command({"replSetStepDown": 1, "force": True})
        async with asyncio.timeout(60):
            while not (failed and written):
                try:
                    await writes.write(Place("lines", "rows"), Insert({"_id": failed + 1}))
                    written += 1
                except ConnectionFailure:
                    failed += 1
        # What has failed may have been done, and what has not is there.
        assert failed + 1 in [row["_id"] async for row in rows.find()]
        await lines.close()


async def test_an_answer_that_is_no_document_ends_its_connection_and_the_question_is_asked_again(wired: Wired) -> None:
    await wired.read()
    (line,) = wired.lines._idle
    reading = asyncio.ensure_future(wired.read())
    while line._answer is None:
        await asyncio.sleep(0)
    line.data_received(struct.pack("<iiiiIb", 21 + 8, 9, line._last_request, 2013, 0, 0) + b"\xff" * 8)

    assert await reading == []
    assert line.ended.done()
    assert len(wired.lines._keepers) == len(wired.lines._idle)


async def test_what_organizations_write_at_one_moment_goes_to_each_ones_own_database(wired: Wired) -> None:
    names = [wired.database.name, f"{wired.database.name}_other"]
    await asyncio.gather(*(wired.writes.write(Place(name, "rows"), Insert({"_id": name})) for name in names))
    found = await asyncio.gather(*(wired.lines.read(name, {"find": "rows"}) for name in names))
    await wired.database.client.drop_database(names[1])

    assert [answer["cursor"]["firstBatch"] for answer in found] == [[{"_id": name}] for name in names]


async def test_no_connection_is_left_when_it_is_closed(wired: Wired) -> None:
    await asyncio.gather(*(wired.read() for _ in range(10)))
    lines = [*wired.lines._idle]
    assert lines
    # One is still being opened, and nobody waits for it any more.
    wired.lines._idle.clear()
    wired.proxy.freeze()
    leaving = asyncio.ensure_future(wired.read())
    await asyncio.sleep(0)
    leaving.cancel()
    async with asyncio.timeout(1):
        await wired.lines.close()

    assert all(line.ended.done() for line in lines)
    assert not wired.lines._keepers
