"""Starting services together, bringing back those that crash, stopping them in reverse."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from signal import Signals

import msgspec

from deploy.errors import DeployError
from deploy.local.service import Service
from deploy.stack.display import Display

_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 30.0
_STEADY_SECONDS = 60.0
"""A process that ran this long is no longer counted as one that keeps crashing."""


def start_together(services: Sequence[Service], display: Display) -> None:
    """Return when all are ready. At the first failure the others are ended and the failure is raised."""
    for service in services:
        display.begin(service.name)
    try:
        with ThreadPoolExecutor(max_workers=max(1, len(services))) as pool:
            futures = {pool.submit(service.start): service for service in services}
            try:
                for future in as_completed(futures):
                    future.result()
                    display.done(futures[future].name, futures[future].url)
            except BaseException:
                # So that no thread waits for the readiness of a process that nobody wants any more.
                for service in services:
                    service.kill()
                raise
    except BaseException:
        # Once the threads have ended: one of them may have started its process after the killing.
        for service in services:
            service.stop()
        raise


def stop_in_reverse(layers: Sequence[Sequence[Service]]) -> None:
    """The last layer first, those of one layer together; whatever does not stop in time is killed."""
    for layer in reversed(layers):
        with ThreadPoolExecutor(max_workers=max(1, len(layer))) as pool:
            for stopped in [pool.submit(service.stop) for service in layer]:
                stopped.result()


class _Crashes(msgspec.Struct):
    count: int = 0
    launched_at: float = 0.0
    retry_at: float | None = None


class Supervisor:
    """Asked every moment, starts again what has stopped, later and later while it keeps stopping."""

    def __init__(
        self, services: Sequence[Service], tell: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._services = services
        self._tell = tell
        self._now = now
        self._crashes = {service.slug: _Crashes(launched_at=now()) for service in services}

    def check(self) -> None:
        for service in self._services:
            crashes = self._crashes[service.slug]
            if crashes.retry_at is not None:
                if self._now() >= crashes.retry_at:
                    self._relaunch(service, crashes)
            elif not service.is_running:
                self._plan(service, crashes, how_it_ended(service.exit_code))

    def _relaunch(self, service: Service, crashes: _Crashes) -> None:
        crashes.retry_at = None
        crashes.launched_at = self._now()
        try:
            service.launch()
        except (DeployError, OSError) as error:
            self._plan(service, crashes, f"could not be started: {error}")

    def _plan(self, service: Service, crashes: _Crashes, what: str) -> None:
        if self._now() - crashes.launched_at > _STEADY_SECONDS:
            crashes.count = 0
        delay = min(_FIRST_DELAY_SECONDS * 2**crashes.count, _LONGEST_DELAY_SECONDS)
        crashes.count += 1
        crashes.retry_at = self._now() + delay
        self._tell(f"{service.name} {what}; starting it again in {delay:g} s (log: {service.log_path})")


def how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "stopped"
    if exit_code < 0:
        return f"was ended by {Signals(-exit_code).name}"
    return f"stopped with exit code {exit_code}"
