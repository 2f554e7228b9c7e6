"""Questions the control plane asks a worker."""

from uuid import UUID

from aiohttp import ClientError, ClientTimeout

from control_plane.gateway.gateway import Gateway
from shared.errors import NoLiveWorker
from shared.logging import get_logger

log = get_logger(__name__)

ANSWER_SECONDS = 10.0
"""A worker that does not hold the instance builds it first."""


class WorkerClient:
    def __init__(self, gateway: Gateway, worker_token: str) -> None:
        self._gateway = gateway
        self._headers = {"Authorization": f"Bearer {worker_token}"}

    async def graph(self, instance_id: UUID) -> tuple[str, str]:
        """The id of the worker that drew it, and the Mermaid text. Raises NoLiveWorker."""
        for worker in await self._gateway.workers.candidates(str(instance_id)):
            url = f"{worker.url.rstrip('/')}/internal/orchestrators/{instance_id}/graph"
            timeout = ClientTimeout(total=ANSWER_SECONDS)
            try:
                async with self._gateway.client.get(url, headers=self._headers, timeout=timeout) as response:
                    if response.status == 200:
                        return worker.worker_id, await response.text()
                    log.info("worker_drew_no_graph", worker_id=worker.worker_id, status=response.status)
            except (ClientError, TimeoutError) as error:
                log.warning("worker_drew_no_graph", worker_id=worker.worker_id, error=type(error).__name__)
        raise NoLiveWorker("no worker could build this orchestrator and draw it; its status tells why")
