"""How a handler's dependencies are put together."""

from litestar import Litestar
from litestar.routes import HTTPRoute


def resolve_in_turn(app: Litestar) -> None:
    """One after the other: Litestar starts a task for each of those that do not need each other, and ours wait for
    nothing, so that the tasks would cost more than what they are for.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for _, parameters in route.route_handler_map.values():
                batches = parameters.dependency_batches
                parameters.dependency_batches = [{dependency} for batch in batches for dependency in batch]
