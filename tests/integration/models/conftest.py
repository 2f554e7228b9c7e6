import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from runtime_worker.models import retries
from runtime_worker.models.base import ModelClient
from runtime_worker.models.registry import ModelRegistry
from shared.frameworks import Provider
from shared.ids import new_id
from tests.fakes.fixtures import model_connections, model_registry, model_server
from tests.fakes.instances import llm_config_snapshot
from tests.fakes.model_server import ModelServer

__all__ = ["model_connections", "model_registry", "model_server"]

Connect = Callable[..., ModelClient]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What workers run on: how a connection changes hands is the loop's own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def provider() -> Provider:
    """Whose words are spoken; a module for all wires has it parametrized."""
    return Provider.OPENAI


@pytest.fixture
def connect(model_server: ModelServer, model_registry: ModelRegistry, provider: Provider) -> Connect:
    """Makes a client; keywords are those of `llm_config_snapshot`, `model` is the model's name."""

    def connect(*, model: str = "test-model", **config: Any) -> ModelClient:
        snapshot = llm_config_snapshot(**{"base_url": model_server.base_url, "provider": provider, **config})
        return model_registry.acquire(snapshot, model, new_id())

    return connect


@pytest.fixture
def client(connect: Connect) -> ModelClient:
    return connect()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_BACKOFF_SECONDS", 0.001)
