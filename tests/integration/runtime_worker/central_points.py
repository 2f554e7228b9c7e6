"""Central points for tests: a private and a public one, and who calls them."""

from typing import Any

import pytest
from multidict import CIMultiDictProxy

from shared.snapshots import CentralPointChange, OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.integration.runtime_worker.worker import Caller, RunningWorker


class Guest:
    """Somebody without a session at a point, calling from an address of their own."""

    def __init__(self, worker: RunningWorker, point: CentralPointChange, address: str = "198.51.100.7") -> None:
        self.http = worker.http
        self.url = f"{worker.url}/api/orgs/{point.org_id}/central-points/{point.central_id}"
        self.headers = {"X-Forwarded-For": address}

    async def chat(self, message: str = "hi", **body: Any) -> tuple[int, Any, CIMultiDictProxy[str]]:
        url = self.url + "/completion/chat"
        async with self.http.post(url, json={"message": message, **body}, headers=self.headers) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers


@pytest.fixture
async def point(
    control_plane: FakeControlPlane, worker: RunningWorker, instance: OrchestratorSnapshot
) -> CentralPointChange:
    """A private one, which the worker has not heard of yet."""
    return control_plane.point(instance)


@pytest.fixture
async def public(
    control_plane: FakeControlPlane, worker: RunningWorker, instance: OrchestratorSnapshot
) -> CentralPointChange:
    return await known(worker, control_plane.point(instance, visibility="public"))


async def known(worker: RunningWorker, point: CentralPointChange) -> CentralPointChange:
    """The same, once the worker has heard of it."""
    await worker.worker.reconciler.look()
    return point


async def through(member: Caller, point: CentralPointChange, message: str = "hi", **body: Any) -> tuple[int, Any]:
    path = f"/central-points/{point.central_id}/completion/chat"
    return await member.call("POST", path, json={"message": message, **body})
