"""Where chats are asked for at the gateway, and which worker serves them."""

from uuid import uuid4

from shared.placement import place_of, rank
from tests.fakes.worker_server import WorkerServer

ORG = uuid4()
RUN = "0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"


def chat_path(instance_id: object) -> str:
    return f"/api/orgs/{ORG}/orchestrators/{instance_id}/completion/chat"


def owned_by(worker: WorkerServer, workers: list[WorkerServer]) -> str:
    """An instance id whose first worker is the given one."""
    places = [place_of(w.url) for w in workers]
    return next(i for i in iter(lambda: str(uuid4()), "") if rank(i, places)[0] == place_of(worker.url))
