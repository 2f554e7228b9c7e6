"""The fixtures that every other suite stands on."""

import subprocess
from pathlib import Path

import aio_pika
import nats
import psycopg
import pymongo
import pytest
from aiobotocore.session import get_session
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from deploy.errors import ServerFailed
from deploy.local.server import Server
from deploy.local.valkey import Valkey
from tests.backing.find import running
from tests.conftest import S3Endpoint


def _tables(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row is not None
    return int(row[0])


def test_a_test_gets_a_migrated_database(postgres_url: str) -> None:
    assert _tables(postgres_url) > 5


@pytest.mark.parametrize("value", ["x" * 200_000, b"\x89" * 200_000])
def test_a_test_of_a_long_value_can_start_a_server(value: str | bytes) -> None:
    assert len(value) == 200_000
    assert subprocess.run(["true"], check=False).returncode == 0


def test_a_server_that_dies_while_it_starts_is_started_once_more_elsewhere() -> None:
    homes: list[Path] = []

    class Unlucky(Valkey):
        def start(self) -> None:
            homes.append(self.home)
            if len(homes) == 1:
                raise ServerFailed("somebody took its port")
            super().start()

    with running(lambda home: Unlucky(home, is_durable=False)) as server, SyncRedis.from_url(server.url) as client:
        assert client.ping()
    assert len(set(homes)) == 2
    assert not any(home.exists() for home in homes)


def test_an_empty_database_has_no_tables(empty_postgres_url: str) -> None:
    assert _tables(empty_postgres_url) == 0


def test_mongo_is_a_replica_set_that_can_do_transactions(mongo_url: str) -> None:
    with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
        with client.start_session() as session, session.start_transaction():
            client.fixtures.things.insert_one({"a": 1}, session=session)
        assert client.fixtures.things.count_documents({}) == 1
        client.drop_database("fixtures")


async def test_redis_is_empty_for_every_test(redis: Redis) -> None:
    assert await redis.dbsize() == 0
    await redis.set("left behind", "by a test")


async def test_redis_is_empty_for_the_next_test_too(redis: Redis) -> None:
    assert await redis.dbsize() == 0
    await redis.set("left behind", "by a test")


async def test_nats_has_jetstream(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="things", subjects=["things.>"])
    assert (await jetstream.publish("things.a", b"1")).seq == 1
    await client.close()


async def test_nats_has_no_streams_of_an_earlier_test(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    assert await client.jetstream().streams_info() == []
    await client.close()


async def test_rabbitmq_declares_and_delivers(rabbitmq_url: str) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("things", durable=True)
        assert queue.declaration_result.message_count == 0
        await channel.default_exchange.publish(aio_pika.Message(b"1"), routing_key="things")
        message = await queue.get(timeout=5)
        assert message is not None
        assert message.body == b"1"
        await message.ack()
        await queue.delete()


async def test_the_bucket_keeps_what_is_put(s3_endpoint: S3Endpoint) -> None:
    async with get_session().create_client(
        "s3",
        endpoint_url=s3_endpoint.url,
        region_name=s3_endpoint.region,
        aws_access_key_id=s3_endpoint.access_key_id,
        aws_secret_access_key=s3_endpoint.secret_access_key,
    ) as s3:
        await s3.put_object(Bucket=s3_endpoint.bucket, Key="a/b", Body=b"1")
        answer = await s3.get_object(Bucket=s3_endpoint.bucket, Key="a/b")
        assert await answer["Body"].read() == b"1"


async def test_a_private_server_comes_back_with_its_data_at_the_same_place(private_redis: Server) -> None:
    url = private_redis.url
    async with Redis.from_url(url) as before:
        await before.set("kept", "yes")
    private_redis.stop()
    private_redis.start()
    async with Redis.from_url(url) as after:
        assert await after.get("kept") == b"yes"
