"""How a handler's dependencies are put together."""

from litestar import Litestar
from litestar.routes import HTTPRoute


def resolve_in_turn(app: Litestar) -> None:
    """One after the other, in an order in which each finds what it needs.

    Litestar starts a task for each of those that do not need each other. Ours wait for nothing, so all that this brings
    them is the tasks, which cost more than a short request's own work.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for _, parameters in route.route_handler_map.values():
                batches = parameters.dependency_batches
                parameters.dependency_batches = [{dependency} for batch in batches for dependency in batch]
