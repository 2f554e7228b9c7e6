"""A worker's organization with limits: what it is answered, and what it has used."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from runtime_worker.conversations.base import TokenUsage
from runtime_worker.engines.base import EventSink, RunRequest
from shared.clock import SystemClock
from shared.frameworks import Provider
from shared.ids import new_id
from shared.limits import OrganizationLimits
from shared.limits.use import used_by
from shared.pricing import ModelPrice
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder, echo
from tests.integration.runtime_worker.worker import Caller, RunningWorker

PRICES = (ModelPrice(Provider.OPENAI, "test-model", Decimal(1), Decimal(2)),)
TOKENS = 15
"""What a scripted run uses."""


async def asked(caller: Caller, instance_id: Any, **body: Any) -> tuple[int, Mapping[str, str], Any]:
    """(status, headers, body) of a chat."""
    path = f"{caller.url}/orchestrators/{instance_id}/completion/chat"
    async with caller.http.post(path, headers=caller.headers, json={"message": "hi", **body}) as response:
        return response.status, response.headers, await response.json()


def limit(control_plane: FakeControlPlane, caller: Caller, **limits: int) -> None:
    control_plane.limits[caller.org_id] = OrganizationLimits(**limits)


def gated(builder: ScriptedBuilder) -> asyncio.Event:
    """Runs wait for it before they answer."""
    gate = asyncio.Event()

    async def wait(request: RunRequest, sink: EventSink) -> None:
        await gate.wait()
        await echo(request, sink)

    builder.script = wait
    return gate


async def used(worker: RunningWorker, caller: Caller) -> Any:
    return await used_by(worker.worker.redis, caller.org_id, SystemClock().now())


async def all_settled(worker: RunningWorker, caller: Caller) -> bool:
    return bool((await used(worker, caller)).running == 0)


async def spend(worker: RunningWorker, caller: Caller, *, tokens: int = 0, cost: float = 0.0) -> None:
    """As if a run of the organization had used this."""
    usage = TokenUsage(input_tokens=tokens, output_tokens=0, cost=cost)
    await worker.worker.reservations.settle(caller.org_id, new_id(), usage, None)
