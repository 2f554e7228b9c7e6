"""Processes that crash come back, and not in a tight circle."""

from pathlib import Path

from deploy.errors import PortInUse
from deploy.local.child import Child
from deploy.local.service import Service
from deploy.stack.supervisor import Supervisor, how_it_ended
from tests.fakes.clock import ManualClock


class Breakable(Service):
    """A service without a process."""

    name, slug = "worker 1", "worker-1"

    def __init__(self, *, lives: bool = True) -> None:
        super().__init__(Path("/nowhere"), port=1)
        self.launches = 0
        self.lives = lives
        self.refuses = False

    @property
    def url(self) -> str:
        return ""

    @property
    def is_running(self) -> bool:
        return self.lives

    @property
    def exit_code(self) -> int | None:
        return -9

    def launch(self) -> None:
        self.launches += 1
        if self.refuses:
            raise PortInUse("port 1 is in use")
        self.lives = True

    def child(self) -> Child:
        raise AssertionError("launch is replaced")

    def is_ready(self) -> bool:
        return self.lives


def supervised(service: Breakable, clock: ManualClock) -> tuple[Supervisor, list[str]]:
    told: list[str] = []
    return Supervisor([service], told.append, clock.monotonic), told


def test_a_killed_process_is_started_again_and_the_operator_is_told_why(clock: ManualClock) -> None:
    service = Breakable()
    supervisor, told = supervised(service, clock)
    service.lives = False
    supervisor.check()
    clock.advance(0.5)
    supervisor.check()
    assert service.launches == 1
    assert "worker 1 was ended by SIGKILL" in told[0]


def test_what_keeps_crashing_is_tried_later_and_later_but_at_least_every_half_minute(clock: ManualClock) -> None:
    service = Breakable()
    supervisor, _ = supervised(service, clock)
    pauses: list[float] = []
    for _ in range(10):
        service.lives = False
        supervisor.check()
        before, launches = clock.monotonic(), service.launches
        while service.launches == launches:
            clock.advance(0.5)
            supervisor.check()
        pauses.append(clock.monotonic() - before)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_a_crash_after_a_long_good_time_is_repaired_at_once_again(clock: ManualClock) -> None:
    service = Breakable()
    supervisor, told = supervised(service, clock)
    for _ in range(2):
        service.lives = False
        supervisor.check()
        clock.advance(61)
        supervisor.check()
        clock.advance(61)
    assert ["in 0.5 s" in line for line in told] == [True, True]


def test_one_that_cannot_be_started_does_not_end_the_supervision(clock: ManualClock) -> None:
    service = Breakable(lives=False)
    service.refuses = True
    supervisor, told = supervised(service, clock)
    for _ in range(4):
        supervisor.check()
        clock.advance(1)
    service.refuses = False
    clock.advance(30)
    supervisor.check()
    assert service.lives
    assert "port 1 is in use" in told[-1]


def test_how_a_process_ended_is_said_in_words() -> None:
    assert how_it_ended(-15) == "was ended by SIGTERM"
    assert how_it_ended(2) == "stopped with exit code 2"
