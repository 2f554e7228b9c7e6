"""What both planes measure for Prometheus: requests, by route as it is written down and never by what is in its place.

A `/metrics` is open to whoever reaches it: no label says which organization, instance, user or model anything was of.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
UNKNOWN_ROUTE = "unknown"
"""For whatever leads to no handler: what a caller made up must not become a label."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]


class RequestMetrics:
    """Counts and times the requests of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "cadence_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "cadence_http_response_seconds",
            "Seconds until an answer began. A stream's end is not waited for.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # To be found by labels they are looked up under a lock, for every request.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def around(self, app: Application) -> Application:
        """The same ASGI application, measured."""

        async def measured(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began = perf_counter()

            def noting(message: Message) -> Awaitable[None]:
                # Not a coroutine: it is called for every chunk of every stream, and looks at the first message only.
                if message["type"] == "http.response.start":
                    self._note(scope, message["status"], perf_counter() - began)
                return send(message)

            await app(scope, receive, noting)

        return measured

    def text(self) -> bytes:
        """Everything in the registry, in Prometheus's text format."""
        return generate_latest(self.registry)

    def _note(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = scope.get("path_template") or UNKNOWN_ROUTE
        kind = method, route, status
        children = self._children.get(kind)
        if children is None:
            counter, histogram = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
            children = self._children[kind] = counter, histogram
        children[0].inc()
        children[1].observe(seconds)
