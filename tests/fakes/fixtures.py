"""Fixtures of the fakes. Import them by name into a `conftest.py`: `from tests.fakes.fixtures import model_server`."""

from collections.abc import AsyncIterator

import pytest

from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from tests.fakes.instances import KEYRING
from tests.fakes.model_server import ModelServer


@pytest.fixture
async def model_server() -> AsyncIterator[ModelServer]:
    """A scripted model server that fails the test on an unexpected call and on a step nobody asked for."""
    async with ModelServer() as server:
        yield server
        server.assert_done()


@pytest.fixture
async def model_connections() -> AsyncIterator[ModelConnections]:
    """The way out to models, which may be on this machine."""
    async with ModelConnections(allow_private=True) as connections:
        yield connections


@pytest.fixture
def model_registry(model_connections: ModelConnections) -> ModelRegistry:
    return ModelRegistry(model_connections, KEYRING)
