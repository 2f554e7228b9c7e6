"""A configuration that changes again and again under live streams. How long it takes is measured by `bench fleet`."""

import pytest

from deploy.stack.data_dir import DataDirectory
from tests.benchmarks.reloads import Target, under_fire
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]


async def test_no_stream_suffers_from_a_change_and_every_worker_serves_it(stack: RunningStack, tenant: Tenant) -> None:
    state = DataDirectory(stack.data_dir).state()
    assert state is not None
    workers = [process for process in state.processes if process.slug.startswith("worker-")]
    target = Target(
        gateway_url=stack.url,
        path=tenant.path,
        headers=tenant.client.headers,
        config={"default_llm_config_id": tenant.llm_config_id},
        workers={process.url: stack.data_dir / "logs" / f"{process.slug}.log" for process in workers},
    )

    found = await under_fire(target, streams=20, changes=5, pause_seconds=1.0)

    assert found.wrong == []
    assert found.streams >= 20
    assert found.not_served == 0
