"""Every route of a worker says who may call it."""

from pathlib import Path

from litestar.routes import HTTPRoute

from runtime_worker.app import create_app
from runtime_worker.http.auth import PermissionGuard, public, workers_only
from tests.fakes.control_plane import FakeControlPlane
from tests.integration.runtime_worker.worker import worker_settings

PUBLIC = {"/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"}


def test_every_route_has_one_guard_and_only_listed_ones_are_open(tmp_path: Path) -> None:
    settings = worker_settings(
        control_plane=FakeControlPlane(),
        redis_url="redis://127.0.0.1:1",
        mongo_url="mongodb://127.0.0.1:1",
        broker_url="nats://127.0.0.1:1",
        home=tmp_path,
    )
    handlers = [
        (route.path_format, handler)
        for route in create_app(settings).routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.fn.__module__.startswith("runtime_worker.")
    ]

    for path, handler in handlers:
        (guard,) = handler.resolve_guards()
        assert (guard is public) is (path in PUBLIC), path
        assert (guard is workers_only) is path.startswith("/internal/"), path
        if isinstance(guard, PermissionGuard):
            # The permission is asked for in the organization of the path.
            assert path.startswith("/api/orgs/{org_id}/"), path
    assert len(handlers) > len(PUBLIC)
