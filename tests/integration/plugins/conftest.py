from tests.integration.control_plane.conftest import app, http, resources, root, routes, settings, world

__all__ = ["app", "http", "resources", "root", "routes", "settings", "world"]
