"""One connection to Redis for the short questions of all requests."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import RedisError, ResponseError

from control_plane.wiring import create_redis
from shared.ids import new_id
from shared.redis_line import LinedRedis


@pytest.fixture
def name() -> str:
    """By which the server knows the connections of one test."""
    return f"line-{new_id()}"


@pytest.fixture
async def redis(redis_url: str, name: str) -> AsyncIterator[LinedRedis]:
    client = create_redis(f"{redis_url}{'&' if '?' in redis_url else '?'}client_name={name}")
    await client.mset({f"line:{number}": number for number in range(100)})
    yield client
    await client.aclose()


async def value(redis: LinedRedis, number: int) -> bytes | str | None:
    return await redis.get(f"line:{number}")


async def test_everybody_gets_their_own_answer(redis: LinedRedis) -> None:
    answers = await asyncio.gather(*(value(redis, number) for number in range(100)))

    assert answers == [b"%d" % number for number in range(100)]


async def test_who_leaves_takes_nobodys_answer_along(redis: LinedRedis) -> None:
    asked = [asyncio.create_task(value(redis, number)) for number in range(100)]
    await asyncio.sleep(0)
    for task in asked[::2]:
        task.cancel()
    answers = await asyncio.gather(*asked[1::2])

    assert answers == [b"%d" % number for number in range(1, 100, 2)]


async def test_an_error_is_for_who_caused_it(redis: LinedRedis) -> None:
    broken = redis.register_script("return redis.call('GET', KEYS[1], 'too', 'many')")

    answers: list[object] = await asyncio.gather(
        value(redis, 1), broken(keys=["line:2"]), value(redis, 3), return_exceptions=True
    )

    assert [answers[0], answers[2]] == [b"1", b"3"]
    assert isinstance(answers[1], ResponseError)


async def test_a_lost_connection_costs_nobody_an_answer(redis: LinedRedis, name: str) -> None:
    assert await redis.get("line:1") == b"1"
    for known in await redis.client_list():
        if known["name"] == name:
            await redis.client_kill_filter(_id=known["id"], skipme=True)

    assert await asyncio.gather(*(value(redis, number) for number in range(10))) == [
        b"%d" % number for number in range(10)
    ]


async def test_a_server_that_is_not_there_is_an_error_for_all() -> None:
    client = create_redis("redis://127.0.0.1:1/0")

    answers = await asyncio.gather(*(value(client, 1) for _ in range(5)), return_exceptions=True)
    await client.aclose()

    assert all(isinstance(answer, RedisError) for answer in answers), answers
