"""The whole control plane in this process, on real PostgreSQL, Redis and NATS, with callers in several roles."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar

from control_plane.app import create_app
from control_plane.auth.passwords import Passwords
from control_plane.wiring import Resources
from shared.settings import ControlPlaneSettings
from tests.integration.control_plane.callers import Caller, World, control_plane_settings
from tests.integration.control_plane.serving import started


def client_of(app: Litestar) -> httpx.AsyncClient:
    """A client of an application in this process."""
    transport = httpx.ASGITransport(app=cast("Any", app))  # httpx knows ASGI scopes as plain mappings only
    return httpx.AsyncClient(transport=transport, base_url="http://control.plane")


@pytest.fixture
def settings(postgres_url: str, redis_url: str, nats_url: str, tmp_path: Path) -> ControlPlaneSettings:
    return control_plane_settings(postgres_url, redis_url, nats_url, tmp_path)


@pytest.fixture(scope="session")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Litestar:
    """The application with its routes and without a server: making one takes longer than most tests."""
    nowhere = ("postgresql://127.0.0.1:1/none", "redis://127.0.0.1:1", "nats://127.0.0.1:1")
    return create_app(control_plane_settings(*nowhere, tmp_path_factory.mktemp("none")))


@pytest.fixture
async def app(
    routes: Litestar, settings: ControlPlaneSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Litestar]:
    """The application on servers of the test's own."""
    # Real hashes, but cheap ones: most tests log several people in, and there is one for nobody from the start.
    monkeypatch.setattr("control_plane.wiring.resources.Passwords", partial(Passwords, memory_kib=64, iterations=1))
    routes.state.resources = Resources(settings)
    async with started(routes) as app:
        yield app


@pytest.fixture
def resources(app: Litestar) -> Resources:
    found: Resources = app.state.resources
    return found


@pytest.fixture
async def http(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a session."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def world(http: httpx.AsyncClient, resources: Resources) -> World:
    return World(http, resources)


@pytest.fixture
async def root(world: World) -> Caller:
    """A logged-in sys_admin who is a member of nothing."""
    return await world.sys_admin()
