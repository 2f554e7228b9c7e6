"""Builds beside live streams: what holds the loop is held for one build at a time."""

import asyncio
from itertools import pairwise
from typing import Any, cast

import pytest

from runtime_worker.engines.base import EngineParts
from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from runtime_worker.pool import building
from runtime_worker.pool.building import PartsBuilder
from shared.security.key_wrapping import LocalWrapping
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.instances import KEYRING, instance_snapshot, llm_config_snapshot

BUILDS = 6


class NotedEngine:
    """Notes in `happened` that it builds."""

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened

    async def build(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> object:
        self._happened.append("build")
        return object()


async def test_streams_have_a_turn_between_any_two_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    engine = NotedEngine(happened)
    monkeypatch.setattr(building, "loaded_engine", lambda *_: engine)

    async def stream() -> None:
        while True:
            happened.append("token")
            await asyncio.sleep(0)

    async with ModelConnections(allow_private=True) as connections:
        builder = PartsBuilder(ModelRegistry(connections, KEYRING), cast("Any", None), LocalWrapping(KEYRING))
        streaming = asyncio.create_task(stream())
        built = await asyncio.gather(
            *(builder.build(instance_snapshot(llm_config_snapshot("http://model.test/v1"))) for _ in range(BUILDS))
        )
        streaming.cancel()
        for one in built:
            await one.close()

    assert happened.count("build") == BUILDS
    assert ("build", "build") not in set(pairwise(happened))
