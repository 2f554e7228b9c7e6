from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.ids import new_id
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.fixtures import model_server as model_server
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.pairs import Pair, pair_of
from tests.integration.runtime_worker.worker import Caller, RunningWorker, running_worker, worker_settings


@pytest.fixture
async def control_plane() -> AsyncIterator[FakeControlPlane]:
    async with FakeControlPlane() as server:
        yield server


@pytest.fixture
def builder() -> ScriptedBuilder:
    return ScriptedBuilder()


@pytest.fixture
def settings(
    control_plane: FakeControlPlane, redis_url: str, mongo_url: str, nats_server_url: str, tmp_path: Path
) -> WorkerSettings:
    return worker_settings(
        control_plane=control_plane,
        redis_url=redis_url,
        mongo_url=mongo_url,
        broker_url=nats_server_url,
        home=tmp_path,
    )


@pytest.fixture
async def worker(
    settings: WorkerSettings, control_plane: FakeControlPlane, builder: ScriptedBuilder
) -> AsyncIterator[RunningWorker]:
    """A worker whose instances run the builder's script."""
    async with running_worker(settings, control_plane, builder) as running:
        yield running


@pytest.fixture
def instance(control_plane: FakeControlPlane) -> OrchestratorSnapshot:
    """An instance of an organization of the test's own, loaded on demand."""
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id())
    return control_plane.put(snapshot, tier="demand")


@pytest.fixture
async def member(worker: RunningWorker, instance: OrchestratorSnapshot) -> Caller:
    return await worker.sign_in(instance.org_id)


@pytest.fixture
async def pair(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
    tmp_path: Path,
) -> AsyncIterator[Pair]:
    async with pair_of(settings, control_plane, instance, builder, tmp_path) as pair:
        yield pair
