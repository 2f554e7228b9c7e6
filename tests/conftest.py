"""Servers for the tests. Each is started when the first test of a process asks for it, and is a real one.

Shared by the tests of one xdist worker:

- `postgres_url`: a database of the test's own with the newest schema, dropped afterwards, with the application's login.
- `postgres_owner_url`: the same database with the login that owns it.
- `empty_postgres_url`: the same without any table.
- `mongo_url`: one server for all; databases are per organization, so a test makes organization ids of its own.
- `redis_url`, `redis`: an empty Redis, and a client of it (bytes in, bytes out).
- `nats_url`: JetStream without any stream.
- `rabbitmq_url`: a virtual host of the test's own.
- `s3_endpoint`: an `S3Endpoint` with url, keys, region and bucket.
- `clock`: a `ManualClock`.

A test's own, to take away and bring back (`stop()`, `start()`, `kill()`, `pause()`, `resume()`, `url`; same port, same
data): `private_postgres` (migrated), `private_mongo`, `private_redis`, `private_nats`.

Where each comes from: `tests/backing/find.py`; where all keep their data: `tests/backing/memory.py`.
"""

import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import nats
import pytest
import structlog
from hypothesis import settings
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from structlog.dev import ConsoleRenderer, plain_traceback

from deploy.errors import ServerUnavailable
from deploy.local import seaweed
from deploy.local.mongo import Mongo
from deploy.local.nats import Nats
from deploy.local.postgres import Postgres
from deploy.local.seaweed import Seaweed
from deploy.local.server import Server
from deploy.local.valkey import Valkey
from tests.backing import containers
from tests.backing.find import MISSING, give_up, located, running
from tests.backing.memory import move_into_memory
from tests.backing.postgres import Databases, application_url, migrate
from tests.backing.rabbitmq import Broker, rabbitmq
from tests.fakes.clock import ManualClock
from tests.isolation.canaries import WATCH

# Slow to start, or shared by all processes: the tests that need one of these run in the same xdist worker.
_ONE_WORKER_FIXTURES = {"rabbitmq_broker": "rabbitmq", "s3_server": "s3"}

_LONGEST_IN_ID = 80
"""Characters of a parameter in the id of its test."""

# How long an example takes says more about what else the machine does than about the example.
settings.register_profile("cadence", deadline=None)
settings.load_profile("cadence")

_CANARIES = pytest.StashKey[list[str]]()


class S3Endpoint(msgspec.Struct, frozen=True):
    """What a client needs to reach the bucket."""

    url: str
    access_key_id: str
    secret_access_key: str
    region: str
    bucket: str


def _fast(server: type[Server]) -> Callable[[Path], Server]:
    return lambda home: server(home, is_durable=False)


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[Databases]:
    with located("CADENCE_TEST_POSTGRES_URL", _fast(Postgres), image=containers.POSTGRES) as url:
        databases = Databases(url)
        yield databases
        databases.close()


@pytest.fixture
def postgres_owner_url(postgres_databases: Databases) -> Iterator[str]:
    with postgres_databases.clone() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_owner_url: str) -> str:
    return application_url(postgres_owner_url)


@pytest.fixture
def empty_postgres_url(postgres_databases: Databases) -> Iterator[str]:
    with postgres_databases.empty() as url:
        yield url


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    with located("CADENCE_TEST_MONGO_URL", _fast(Mongo), image=containers.MONGO) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    with located("CADENCE_TEST_REDIS_URL", _fast(Valkey), image=containers.REDIS) as url:
        # On a server that xdist workers share, each has a numbered database.
        number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        yield urlunsplit(urlsplit(url)._replace(path=f"/{int(number) % 16}"))


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    with SyncRedis.from_url(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def nats_server_url() -> Iterator[str]:
    with located("CADENCE_TEST_NATS_URL", _fast(Nats), image=containers.NATS) as url:
        yield url


@pytest.fixture
def nats_url(nats_server_url: str) -> str:
    async def remove_streams() -> None:
        client = await nats.connect(nats_server_url)
        try:
            jetstream = client.jetstream()
            for stream in await jetstream.streams_info():
                await jetstream.delete_stream(stream.config.name or "")
        finally:
            await client.close()

    asyncio.run(remove_streams())
    return nats_server_url


@pytest.fixture(scope="session")
def rabbitmq_broker() -> Iterator[Broker]:
    with rabbitmq() as broker:
        yield broker


@pytest.fixture
def rabbitmq_url(rabbitmq_broker: Broker) -> Iterator[str]:
    with rabbitmq_broker.fresh_url() as url:
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with located("CADENCE_TEST_S3_URL", _fast(Seaweed), image=containers.S3) as url:
        yield url


@pytest.fixture
def s3_endpoint(s3_server: str) -> S3Endpoint:
    """Keys of a server from outside come from `CADENCE_TEST_S3_ACCESS_KEY_ID`, `…_SECRET_ACCESS_KEY` and `…_BUCKET`."""
    given = os.environ.get
    return S3Endpoint(
        url=s3_server,
        access_key_id=given("CADENCE_TEST_S3_ACCESS_KEY_ID", seaweed.ACCESS_KEY_ID),
        secret_access_key=given("CADENCE_TEST_S3_SECRET_ACCESS_KEY", seaweed.SECRET_ACCESS_KEY),
        region="us-east-1",
        bucket=given("CADENCE_TEST_S3_BUCKET", seaweed.BUCKET),
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def private_postgres() -> Iterator[Server]:
    with _private(Postgres) as server:
        migrate(server.url)
        yield server


@pytest.fixture
def private_mongo() -> Iterator[Server]:
    with _private(Mongo) as server:
        yield server


@pytest.fixture
def private_redis() -> Iterator[Server]:
    # Durable: what was written before it went away must be there when it is back.
    with _private(Valkey, is_durable=True) as server:
        yield server


@pytest.fixture
def private_nats() -> Iterator[Server]:
    with _private(Nats) as server:
        yield server


@contextmanager
def _private(server: type[Server], *, is_durable: bool = False) -> Iterator[Server]:
    try:
        with running(lambda home: server(home, is_durable=is_durable)) as started:
            yield started
    except ServerUnavailable as error:
        give_up(str(error))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="print what every caller gets from every route")


def pytest_make_parametrize_id(val: object) -> str | None:
    """A long value is told by how it begins and how long it is.

    The whole id of a test is in the environment of every process that it starts (`PYTEST_CURRENT_TEST`), where Linux
    refuses variables of 128 KiB (MAX_ARG_STRLEN): no server could be started from such a test, nor in it.
    """
    if isinstance(val, str | bytes) and len(val) > _LONGEST_IN_ID:
        return f"{val[:_LONGEST_IN_ID]!r} and so on to {len(val)}"
    return None


# Before xdist's own, which looks at the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, group in _ONE_WORKER_FIXTURES.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(group))


def pytest_configure(config: pytest.Config) -> None:
    # Collecting imports everything that there is, none of which is garbage.
    gc.disable()
    # Usually a traceback shows the local variables of every frame, which takes longer than most that fails on purpose.
    *others, _ = structlog.get_config()["processors"]
    structlog.configure(processors=[*others, ConsoleRenderer(exception_formatter=plain_traceback)])
    # Processes that test for this one inherit its place.
    if not hasattr(config, "workerinput") and (home := move_into_memory()):
        config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_collection_finish() -> None:
    """What was imported stays, so that to look through it again and again would find nothing and only take long."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that tests for another tells it what its canaries came to."""
    if summary := WATCH.summary():
        getattr(session.config, "workeroutput", {})["canaries"] = summary
        session.config.stash.setdefault(_CANARIES, []).append(summary)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if summary := getattr(node, "workeroutput", {}).get("canaries"):
        node.config.stash.setdefault(_CANARIES, []).append(summary)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the canaries came to, and every server that no test could have, once, with the number of tests it cost."""
    for summary in terminalreporter.config.stash.get(_CANARIES, []):
        terminalreporter.section("canaries")
        terminalreporter.line(summary)
    lost: dict[str, int] = {}
    for report in terminalreporter.getreports("skipped"):
        _, _, reason = str(report.longrepr).partition(MISSING)
        if reason:
            reason = reason.rstrip("'\")")
            lost[reason] = lost.get(reason, 0) + 1
    if lost:
        terminalreporter.section("servers that were not found", yellow=True)
        for reason, count in lost.items():
            terminalreporter.line(f"{count} tests not run: {reason}")
