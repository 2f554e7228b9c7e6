import pytest

from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.integration.runtime_worker.limits.asking import PRICES


@pytest.fixture
def instance(control_plane: FakeControlPlane) -> OrchestratorSnapshot:
    """Its model has a price, so that a budget can bound it."""
    snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id())
    return control_plane.put(snapshot, tier="demand", prices=PRICES)
