"""A whole stack with two workers, started once for all tests of this folder, and a model that streams word by word.

It ends with the last of them, and not with the session: an idle stack takes its part of the machine from other tests.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from deploy.demo.model_server import create_app
from tests.e2e.client import Client
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant
from tests.e2e.watching import look_everywhere
from tests.e2e.witnessing import Witnesses
from tests.fakes.wheels import WHEELS, package_index
from tests.isolation.canaries import WATCH


@pytest.fixture(scope="package")
def witnesses(tmp_path_factory: pytest.TempPathFactory) -> Witnesses:
    """Of what the processes of the stack run, from their start to their end."""
    return Witnesses(tmp_path_factory.mktemp("witnesses") / "told")


@pytest.fixture(scope="package")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys that the stack seals secrets with."""
    file = tmp_path_factory.mktemp("keys") / "encryption-keys"
    file.write_text(f"first:{secrets.token_hex(32)}")
    return file


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, witnesses: Witnesses, keys_file: Path) -> Iterator[RunningStack]:
    """Plugins get their dependencies from an index of the tests' own (`tests.fakes.wheels.WHEELS`)."""
    environment = {
        **witnesses.environment,
        "CADENCE_PLUGIN_INDEX_URL": package_index(tmp_path_factory.mktemp("index"), WHEELS),
        "CADENCE_ENCRYPTION_KEYS_FILE": str(keys_file),
    }
    stack = RunningStack(tmp_path_factory.mktemp("cadence") / "data", "--workers", "2", environment=environment)
    try:
        stack.wait_until_ready()
        yield stack
        asyncio.run(look_everywhere(stack, WATCH))
    finally:
        stack.stop()
    # After everything that any test did to it: no tenant's code has run in a process of the platform, and nothing that
    # a tenant keeps was ever where anybody else could read it.
    assert witnesses.foreign_code() == set()
    WATCH.assert_silent()


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Another one, with the demo and one worker, as the README starts it, for those who stop it or end its processes:
    it runs when a test begins."""
    demo = RunningStack(tmp_path_factory.mktemp("demo") / "data", "--demo")
    try:
        demo.wait_until_ready()
        yield demo
    finally:
        demo.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=90)
    ) as session:
        yield session


@pytest.fixture
async def admin(stack: RunningStack, http: aiohttp.ClientSession) -> AsyncIterator[Client]:
    """The first admin, logged in with the credentials that `cadence up` keeps."""
    client = Client(stack.url, http)
    await client.login(*stack.credentials())
    yield client
    # What stays loaded is built again, with the processes of its plugins, by every worker that a later test kills.
    with suppress(aiohttp.ClientError, TimeoutError):
        for path in client.loaded:
            await client.call("POST", f"{path}/unload")


@pytest.fixture
async def model_url() -> AsyncIterator[str]:
    """A model whose answers take a moment: 40 ms a word, so that streams overlap with what a test does to them."""
    async with TestServer(create_app(word_seconds=0.04)) as server:
        yield str(server.make_url("/v1"))


@pytest.fixture
async def tenant(admin: Client, model_url: str) -> Tenant:
    """An organization of its own with a loaded orchestrator."""
    return await Tenant.create(admin, model_url)


@pytest.fixture
def fresh_dir(tmp_path: Path) -> Path:
    return tmp_path / "fresh"
