"""A connection that one of us takes over from a driver is as encrypted as the driver has made it.

On the loop that workers run on: what it does with an encrypted connection that changes hands is its own.
"""

from pathlib import Path
from uuid import uuid4

import uvloop

from runtime_worker.conversations.databases import mongo_client
from runtime_worker.conversations.group_writes import GroupWrites, Insert, Place
from runtime_worker.conversations.mongo_lines import MongoLines
from shared.redis_line import LineRedis
from tests.fakes.certificates import certificate_of, serving
from tests.fakes.tcp_proxy import tcp_proxy


def test_mongodb_is_asked_over_tls_by_whoever_the_driver_has_signed_in(mongo_url: str, tmp_path: Path) -> None:
    certificate = certificate_of("localhost", tmp_path)

    async def check() -> None:
        async with tcp_proxy(mongo_url, serving(certificate)) as (proxy, _), mongo_client(mongo_url) as admin:
            name = f"lines_{uuid4().hex}"
            await admin[name].command("createUser", "writer", pwd="made-up", roles=["readWrite"])
            options = f"directConnection=true&tls=true&tlsCAFile={certificate}&authSource={name}"
            address = f"mongodb://writer:made-up@localhost:{proxy.port}/?{options}"
            async with mongo_client(address) as client:
                lines = MongoLines(client)
                writes = GroupWrites(lines, {})
                try:
                    for number in range(3):
                        await writes.write(Place(name, "rows"), Insert({"_id": number, "text": "x" * 100_000}))
                    await proxy.cut()
                    await proxy.mend()
                    found = await lines.read(name, {"find": "rows", "sort": {"_id": 1}})
                    assert [row["_id"] for row in found["cursor"]["firstBatch"]] == [0, 1, 2]
                    status = await lines.read(name, {"connectionStatus": 1})
                    assert status["authInfo"]["authenticatedUsers"] == [{"user": "writer", "db": name}]
                finally:
                    await lines.close()
                    await admin[name].command("dropUser", "writer")
                    await admin.drop_database(name)

    uvloop.run(check())


def test_redis_is_asked_over_tls(redis_url: str, tmp_path: Path) -> None:
    certificate = certificate_of("localhost", tmp_path)

    async def check() -> None:
        async with tcp_proxy(redis_url, serving(certificate)) as (proxy, url):
            encrypted = url.replace("redis://", "rediss://").replace("127.0.0.1", "localhost")
            line = LineRedis.from_url(encrypted, ssl_ca_certs=str(certificate))
            try:
                assert await line.echo("x" * 100_000) == b"x" * 100_000
                await proxy.cut()
                await proxy.mend()
                assert await line.echo("again") == b"again"
                assert proxy.connections == 2
            finally:
                await line.aclose()

    uvloop.run(check())
