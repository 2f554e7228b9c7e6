from pathlib import Path

import pytest

from shared.settings import ControlPlaneSettings
from tests.fakes.wheels import WHEELS, package_index
from tests.integration.control_plane.callers import control_plane_settings
from tests.integration.control_plane.conftest import app, http, resources, root, routes, world

__all__ = ["app", "http", "resources", "root", "routes", "world"]


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a package index with a few small packages (`tests.fakes.wheels.WHEELS`)."""
    return package_index(tmp_path_factory.mktemp("index"), WHEELS)


@pytest.fixture
def settings(postgres_url: str, redis_url: str, nats_url: str, tmp_path: Path, index: str) -> ControlPlaneSettings:
    return control_plane_settings(postgres_url, redis_url, nats_url, tmp_path, PLUGIN_INDEX_URL=index)
