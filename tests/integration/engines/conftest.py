import asyncio
from typing import Any, Protocol

import pytest

from runtime_worker.engines.base import Orchestrator
from runtime_worker.models import openai_wire
from runtime_worker.models.registry import ModelRegistry
from tests.fakes.fixtures import model_connections, model_registry, model_server
from tests.fakes.instances import build, instance_snapshot, llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_bundle import FunctionBundle

__all__ = ["model_connections", "model_registry", "model_server"]


class Supervisor(Protocol):
    async def __call__(self, *bundles: FunctionBundle, **options: Any) -> Orchestrator:
        """A supervisor on the scripted model. `whoami` and `llm` (a dictionary) are options of their own, everything
        else is `mode_config`."""


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def divide(a: int, b: int) -> float:
    """Divide two integers."""
    return a / b


async def hang() -> None:
    """Never come back."""
    await asyncio.Event().wait()


@pytest.fixture
def calc() -> FunctionBundle:
    return FunctionBundle("com.acme.calc", add, divide, hang)


@pytest.fixture
def supervisor(model_server: ModelServer, model_registry: ModelRegistry, calc: FunctionBundle) -> Supervisor:
    async def build_one(*bundles: FunctionBundle, **options: Any) -> Orchestrator:
        whoami, llm = options.pop("whoami", "You are Ada."), options.pop("llm", {})
        config = llm_config_snapshot(model_server.base_url, **llm)
        snapshot = instance_snapshot(config, whoami=whoami, mode_config=options)
        return await build(model_registry, snapshot, bundles or (calc,))

    return build_one


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_wire, "FIRST_BACKOFF_SECONDS", 0.001)
