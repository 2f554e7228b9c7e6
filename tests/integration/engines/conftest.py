from typing import Any, Protocol

import pytest

from runtime_worker.engines.base import Orchestrator
from runtime_worker.models.registry import ModelRegistry
from shared.frameworks import Mode
from tests.fakes.fixtures import model_connections, model_registry, model_server
from tests.fakes.instances import build, instance_snapshot, llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_bundle import FunctionBundle

__all__ = ["model_connections", "model_registry", "model_server"]


class Built(Protocol):
    async def __call__(
        self, mode: Mode, *bundles: FunctionBundle, whoami: str = ..., **mode_config: Any
    ) -> Orchestrator:
        """A LangGraph instance on the scripted model, with one plugin unless told otherwise."""


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@pytest.fixture
def built(model_server: ModelServer, model_registry: ModelRegistry) -> Built:
    async def build_one(
        mode: Mode, *bundles: FunctionBundle, whoami: str = "You are Ada.", **mode_config: Any
    ) -> Orchestrator:
        config = llm_config_snapshot(model_server.base_url)
        snapshot = instance_snapshot(config, whoami=whoami, mode=mode, mode_config=mode_config)
        return await build(model_registry, snapshot, bundles or (FunctionBundle("com.acme.calc", add),))

    return build_one
