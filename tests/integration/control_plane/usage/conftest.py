import asyncio
from datetime import timedelta

import msgspec
import pytest

from control_plane.usage.stream import UsageCounter
from control_plane.wiring import Resources
from control_plane.wiring.resources import usage_counter
from shared.settings import ControlPlaneSettings
from tests.fakes.clock import ManualClock
from tests.integration.control_plane.callers import Tenant, World
from tests.integration.control_plane.usage.runs import NOON


@pytest.fixture
def settings(settings: ControlPlaneSettings) -> ControlPlaneSettings:
    return msgspec.structs.replace(settings, usage_retention_days=90)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do what the control plane does in the background, when and as often as they want."""

    async def wait(_: UsageCounter) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(UsageCounter, "run", wait)


@pytest.fixture
def counter(resources: Resources) -> UsageCounter:
    counter = usage_counter(resources)
    counter._clock = ManualClock(NOON + timedelta(days=1))
    return counter


@pytest.fixture
async def tenant(world: World) -> Tenant:
    return await world.tenant()
