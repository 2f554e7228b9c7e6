"""The client of Redis whose questions share one connection answers like redis-py's own."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis_line import LineRedis
from tests.fakes.tcp_proxy import TcpProxy, tcp_proxy


def _line_to(url: str, seconds: float = 2.0) -> LineRedis:
    client = LineRedis.from_url(
        url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 1), max_connections=100
    )
    assert isinstance(client, LineRedis)
    return client


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[LineRedis]:
    async with _line_to(redis_url) as client:
        yield client


@pytest.fixture
async def wire(redis_url: str) -> AsyncIterator[tuple[TcpProxy, LineRedis]]:
    async with tcp_proxy(redis_url) as (proxy, url), _line_to(url, seconds=0.3) as client:
        yield proxy, client


async def test_answers_are_those_that_redis_py_gives(line: LineRedis, redis: Redis) -> None:
    await redis.hset("hash", mapping={"a": "1", "b": "2"})
    await redis.zadd("sorted", {"x": 1.5, "y": 2})
    await redis.sadd("set", "one", "two")
    await redis.set("text", "word", ex=60)

    for client in (redis, line):
        asked = [
            await client.get("text"),
            await client.get("nothing"),
            await client.mget(["text", "nothing"]),
            await client.hgetall("hash"),
            await client.zrange("sorted", 0, -1, withscores=True),
            await client.zscore("sorted", "x"),
            await client.smembers("set"),
            await client.exists("text"),
            await client.ping(),
            await client.set("text", "word", nx=True),
            await client.eval("return {KEYS[1], false, 3}", 1, "key"),
        ]
        if client is redis:
            expected = asked
    assert asked == expected
    assert (await line.info("server"))["redis_version"] == (await redis.info("server"))["redis_version"]


async def test_scripts_answer_as_redis_pys_do_also_when_redis_has_forgotten_them(line: LineRedis, redis: Redis) -> None:
    for client in (redis, line):
        script = client.register_script("return {KEYS[1], ARGV[1], ARGV[2], false, 3}")
        asked = [await script(keys=["key"], args=["word", 5])]
        await redis.script_flush()
        asked.append(await script(keys=["key"], args=[b"word", 5]))
        async with client.pipeline() as pipe:
            await script(keys=["key"], args=["word", 5], client=pipe)
            asked += await pipe.execute()
        assert asked == [[b"key", b"word", b"5", None, 3]] * 3
        with pytest.raises(ResponseError, match="no good"):
            await client.register_script("return redis.error_reply('no good')")()


async def test_everybody_gets_the_answer_to_their_own_question(line: LineRedis) -> None:
    async def own(number: int) -> bool:
        await line.set(f"key:{number}", number)
        return await line.get(f"key:{number}") == str(number).encode()

    assert all(await asyncio.gather(*(own(number) for number in range(500))))


async def test_who_stops_waiting_leaves_the_answers_of_others_alone(line: LineRedis) -> None:
    await line.set("key", "value")
    leaving = [asyncio.ensure_future(line.eval("return ARGV[1]", 0, "other")) for _ in range(20)]
    staying = asyncio.ensure_future(line.get("key"))
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()

    assert await staying == b"value"


async def test_an_error_is_that_of_whoever_asked(line: LineRedis) -> None:
    await line.set("text", "word")
    wrong, right = await asyncio.gather(line.lpush("text", "x"), line.get("text"), return_exceptions=True)

    assert isinstance(wrong, ResponseError)
    assert right == b"word"
    with pytest.raises(DataError):
        await line.set("key", object())  # type: ignore[arg-type]


async def test_a_script_that_the_server_does_not_know_is_loaded(line: LineRedis) -> None:
    script = line.register_script("return KEYS[1]")
    await line.script_flush()

    assert await script(keys=["key"]) == b"key"


async def test_a_command_that_waits_lets_others_pass(line: LineRedis) -> None:
    waiting = asyncio.ensure_future(line.xread({"stream": "$"}, block=20_000))

    await asyncio.sleep(0.05)
    assert await line.ping()
    # It is over as soon as there is something.
    await line.xadd("stream", {"a": "b"})
    assert await waiting


async def test_pipelines_go_as_ever(line: LineRedis) -> None:
    async with line.pipeline(transaction=True) as pipe:
        pipe.set("key", "value")
        pipe.get("key")
        assert await pipe.execute() == [True, b"value"]


async def test_all_questions_share_one_connection(wire: tuple[TcpProxy, LineRedis]) -> None:
    proxy, line = wire
    await asyncio.gather(*(line.ping() for _ in range(50)))

    assert proxy.connections == 1


async def test_a_connection_that_broke_costs_nobody_an_answer(wire: tuple[TcpProxy, LineRedis]) -> None:
    proxy, line = wire
    await line.set("key", "value")
    await proxy.cut()
    with pytest.raises(RedisConnectionError):
        await line.get("key")
    await proxy.mend()
    assert await line.get("key") == b"value"

    # Nobody asks while it breaks.
    await proxy.cut()
    await proxy.mend()
    assert await line.get("key") == b"value"


async def test_a_server_that_says_nothing_is_given_up_and_found_again(wire: tuple[TcpProxy, LineRedis]) -> None:
    proxy, line = wire
    await line.set("key", "value")
    proxy.freeze()
    with pytest.raises((RedisTimeoutError, RedisConnectionError)):
        await line.get("key")
    proxy.thaw()

    # What was asked before is answered by now; it must not be taken for the answer to this.
    assert await line.set("other", "thing")
    assert await line.get("key") == b"value"
