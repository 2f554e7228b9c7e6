"""The worker's ASGI application."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from runtime_worker.http import (
    central_points,
    chat_completions,
    completions,
    conversations,
    health,
    internal,
    openapi,
    runs,
)
from runtime_worker.http import metrics as metrics_routes
from runtime_worker.http.admissions import Admissions
from runtime_worker.http.auth import provide_worker
from runtime_worker.http.bodies import MAX_JSON_BYTES
from runtime_worker.http.callers import provide_grant
from runtime_worker.http.dependencies import resolve_in_turn
from runtime_worker.http.problems import answer_problem
from runtime_worker.http.request_ids import RequestIds
from runtime_worker.http.visits import provide_visit
from runtime_worker.pool.entry import Builder
from runtime_worker.wiring import Worker
from shared.clock import Clock
from shared.metrics import RequestMetrics
from shared.settings import WorkerSettings


def stop_this_process() -> None:
    """Ask for an orderly stop, as an operator would; whoever supervises the process starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)


def create_app(
    settings: WorkerSettings,
    *,
    builder: Builder | None = None,
    clock: Clock | None = None,
    on_death: Callable[[], None] = stop_this_process,
    routes: Litestar | None = None,
) -> Litestar:
    """One worker behind its routes; `app.state.worker` while it runs. `on_death`: a background task died.

    `routes` are new ones, unless those of a worker that has ended are given.
    """
    app = routes or create_routes()
    metrics = RequestMetrics()
    app.state.begin = partial(Worker, settings, builder=builder, clock=clock, metrics=metrics, on_death=on_death)
    # Around the whole application, so that a 404 of the router has an id as well.
    app.asgi_handler = RequestIds(metrics.around(Admissions(app.state.router)))
    return app


def create_routes() -> Litestar:
    """All routes, with nothing behind them yet. To make them takes a tenth of a second."""
    app = Litestar(
        route_handlers=[
            completions.router,
            chat_completions.router,
            central_points.router,
            runs.router,
            conversations.router,
            health.router,
            internal.router,
            openapi.router,
            metrics_routes.router,
        ],
        dependencies={
            "grant": Provide(provide_grant, sync_to_thread=False),
            "visit": Provide(provide_visit, sync_to_thread=False),
            "worker": Provide(provide_worker, sync_to_thread=False),
        },
        lifespan=[_working],
        exception_handlers={Exception: answer_problem},
        openapi_config=openapi.openapi_config(version("cadence")),
        request_max_body_size=MAX_JSON_BYTES,
        logging_config=None,
        state=State(),
        debug=False,
    )
    resolve_in_turn(app)
    app.state.router = app.asgi_handler
    return app


@asynccontextmanager
async def _working(app: Litestar) -> AsyncIterator[None]:
    # Made inside the loop that serves: locks and events belong to it.
    worker: Worker = app.state.begin()
    app.state.worker = worker
    await worker.open()
    try:
        yield
    finally:
        await worker.close()
