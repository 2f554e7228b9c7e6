"""`python -m runtime_worker`: one process, one event loop, served by Granian inside it."""

import asyncio
import os
import signal
import sys

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar

from shared.errors import ConfigurationInvalid
from shared.heap import importing
from shared.large_pages import keep_in_large_pages
from shared.logging import configure_logging, get_logger
from shared.open_files import allow_open_files
from shared.security.environment import forget_settings
from shared.settings import WorkerSettings, read_worker_settings

with importing():
    from runtime_worker.app import create_app
    from runtime_worker.plugins.egress import keep_own_files_private, network_for
    from runtime_worker.wiring import Worker

BACKPRESSURE = 16_384
"""Requests Granian hands over at once: a stream holds its place for minutes, and thousands may be silent."""

BACKLOG = 1_024
STOP_SECONDS = 5.0
"""How long clients may take to read what was already written for them."""

log = get_logger(__name__)


def main() -> int:
    try:
        settings = read_worker_settings(os.environ)
        # Asked here so that a worker that cannot keep plugins from the network never starts to listen.
        network_for(settings.plugin_hosts.egress)
    except ConfigurationInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # The defence in depth of a process that starts others' code: no child, report or dump shows what was set.
    forget_settings(os.environ)
    keep_own_files_private()
    configure_logging(settings.process.log_level, settings.process.log_format)
    allow_open_files()
    return uvloop.run(serve(settings))


async def serve(settings: WorkerSettings) -> int:
    """Serve until SIGTERM or SIGINT, then drain. The exit code: 0 unless the worker had to stop by itself."""
    signals = _Signals()
    has_died = False

    def died() -> None:
        nonlocal has_died
        has_died = True
        signals.stop()

    app = create_app(settings, on_death=died)
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        backlog=BACKLOG,
        backpressure=BACKPRESSURE,
        websockets=False,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(signals.first.wait())
    paging = asyncio.create_task(keep_in_large_pages(is_idle=lambda: _is_idle(app)))
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    worker = _worker_of(app)
    if stopping.done() and worker is not None:
        log.info("draining", active_runs=len(worker.table))
        await _drain(worker, signals)
    # Only now: Granian stops listening at once, and whoever asks for readiness must get its 503.
    server.stop()  # type: ignore[no-untyped-call]  # Granian's embedded server is not annotated here
    has_failed = not stopping.done()
    stopping.cancel()
    paging.cancel()
    await asyncio.wait({serving}, timeout=STOP_SECONDS)
    if serving.done():
        serving.result()
    elif worker is not None:
        # Granian waits for every response, and one whose client does not read may take for ever.
        log.warning("stopped_with_open_connections")
        await worker.close()
    log.info("stopped")
    return 1 if has_died or has_failed else 0


def _worker_of(app: Litestar) -> Worker | None:
    """None before it has started."""
    worker: Worker | None = getattr(app.state, "worker", None)
    return worker


def _is_idle(app: Litestar) -> bool:
    worker = _worker_of(app)
    return worker is None or len(worker.table) == 0


async def _drain(worker: Worker, signals: "_Signals") -> None:
    """Let the streams finish; a second signal hands them over at once."""
    impatient = asyncio.create_task(signals.second.wait())
    draining = asyncio.create_task(worker.drain())
    await asyncio.wait({draining, impatient}, return_when=asyncio.FIRST_COMPLETED)
    worker.hurry()
    await draining
    impatient.cancel()


class _Signals:
    """The first SIGTERM or SIGINT asks for an orderly stop, the second for a quick one."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def stop(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


if __name__ == "__main__":
    raise SystemExit(main())
