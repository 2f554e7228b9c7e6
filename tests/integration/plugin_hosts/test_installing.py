"""While a worker installs what a plugin depends on, whoever waits for it can see what for."""

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from shared.clock import SystemClock
from shared.ids import new_id
from shared.packages import digest_of
from shared.packages.directory import DirectoryStore
from shared.packages.environments import environment_key
from shared.packages.kept import KeptDirectories
from shared.packages.locks import lock_text, read_lock
from shared.settings import WorkerSettings
from shared.workers import InstanceState, WorkerRegistry
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.fixtures import model_server
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_packages import package, snapshot_of
from tests.fakes.wheels import WHEELS, lock_line, package_index
from tests.integration.runtime_worker.conftest import control_plane, settings
from tests.integration.runtime_worker.worker import RunningWorker, eventually, running_worker

__all__ = ["control_plane", "model_server", "settings"]

TIDES = ("tides", "1.0")
TELLS = "@uvtool\ndef tells() -> str:\n    import tides\n    return tides.VERSION"


async def state_of(worker: RunningWorker, instance_id: UUID) -> InstanceState | None:
    return (await WorkerRegistry(worker.worker.redis, SystemClock()).states_of(instance_id)).get(
        worker.worker.worker_id
    )


async def test_an_instance_that_waits_for_packages_says_so_until_it_is_ready(
    settings: WorkerSettings, control_plane: FakeControlPlane, model_server: ModelServer, tmp_path: Path
) -> None:
    index = package_index(tmp_path / "index", WHEELS)
    packages = msgspec.structs.replace(settings.packages, index_url=index)
    settings = msgspec.structs.replace(settings, packages=packages)
    data, lock = package(tools=TELLS, tool_names="tells"), lock_text(read_lock(lock_line(*TIDES, WHEELS[TIDES]))[0])
    org_id = new_id()
    plugin = msgspec.structs.replace(snapshot_of(data, org_id=org_id), lock=lock)
    assert packages.storage_root is not None
    await DirectoryStore(packages.storage_root).put(plugin.package_key, data)
    assert digest_of(data) == plugin.digest
    one, other = (
        control_plane.put(
            instance_snapshot(llm_config_snapshot(model_server.base_url), org_id=org_id), tier="hot", plugins=(plugin,)
        )
        for _ in range(2)
    )
    environments = KeptDirectories(settings.package_cache / "environments")

    async with AsyncExitStack() as elsewhere:
        # As if another worker on this machine were building it, from before this one starts.
        await elsewhere.enter_async_context(environments.alone(environment_key(lock)))
        async with running_worker(settings, control_plane, None) as worker:

            async def is_waiting(instance_id: UUID) -> bool:
                state = await state_of(worker, instance_id)
                return state is not None and (state.state, state.reason) == (
                    "building",
                    "installing the dependencies of com.acme.calc@1.0.0",
                )

            async def is_ready(instance_id: UUID) -> bool:
                state = await state_of(worker, instance_id)
                return state is not None and (state.state, state.reason) == ("ready", None)

            for instance in (one, other):
                await eventually(partial(is_waiting, instance.instance_id))
            status, told = await worker.ready()
            # It serves all others meanwhile.
            assert (status, told["plugins_without_environment"]) == (200, ["com.acme.calc@1.0.0"])
            await elsewhere.aclose()
            for instance in (one, other):
                await eventually(partial(is_ready, instance.instance_id))
            assert (await worker.ready())[1]["plugins_without_environment"] == []
