"""A plugin that crashes is tried again at once, one that keeps crashing later and later."""

from runtime_worker.plugins.circuit import CRASHES, LONGEST_SECONDS, WINDOW_SECONDS, Circuit
from runtime_worker.plugins.cpu_budget import BURST_CALLS, CpuBudget
from runtime_worker.plugins.output import LINES_AT_ONCE, LineAllowance


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_few_crashes_keep_it_closed_and_repeated_ones_open_it() -> None:
    circuit = Circuit(Time())

    states = []
    for _ in range(CRASHES):
        circuit.crashed()
        states.append(circuit.state)

    assert states == ["closed"] * (CRASHES - 1) + ["open"]
    assert circuit.retry_seconds == 1.0


def test_crashes_far_apart_never_open_it() -> None:
    time = Time()
    circuit = Circuit(time)

    for _ in range(10):
        circuit.crashed()
        time.now += WINDOW_SECONDS

    assert (circuit.state, circuit.crash_count) == ("closed", 10)


def test_each_failed_trial_doubles_the_wait_up_to_a_minute_and_one_success_ends_it() -> None:
    time = Time()
    circuit = Circuit(time)
    for _ in range(CRASHES):
        circuit.crashed()

    waits = []
    for _ in range(8):
        waits.append(circuit.retry_seconds)
        time.now += circuit.retry_seconds
        assert circuit.state == "half_open"
        circuit.crashed()
    time.now += circuit.retry_seconds
    circuit.succeeded()

    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_SECONDS, LONGEST_SECONDS]
    assert circuit.state == "closed"
    circuit.crashed()
    assert circuit.state == "closed"


def test_successes_between_crashes_do_not_hide_them() -> None:
    circuit = Circuit(Time())

    for _ in range(CRASHES):
        circuit.succeeded()
        circuit.crashed()

    assert circuit.state == "open"


def test_calls_pay_for_cpu_time_and_only_for_so_much() -> None:
    budget = CpuBudget(seconds_per_call=10)
    for _ in range(1_000):
        budget.call_started()

    budget.measured(10 * BURST_CALLS - 1, elapsed_seconds=0)
    assert not budget.is_over
    budget.measured(10 * BURST_CALLS + 1, elapsed_seconds=0)
    assert budget.is_over


def test_a_little_cpu_time_between_calls_is_free_and_a_busy_loop_is_not() -> None:
    modest, busy = CpuBudget(10), CpuBudget(10)

    for second in range(1, 3_600):
        modest.measured(second * 0.04, elapsed_seconds=1)
        busy.measured(second * 1.0, elapsed_seconds=1)

    assert not modest.is_over
    assert busy.is_over


def test_lines_are_logged_at_once_up_to_a_point_and_then_slowly() -> None:
    time = Time()
    allowance = LineAllowance(time)

    taken = sum(allowance.take() for _ in range(LINES_AT_ONCE + 50))
    time.now += 1
    later = sum(allowance.take() for _ in range(50))

    assert (taken, later) == (LINES_AT_ONCE, 20)
    assert allowance.dropped == 50 + 30
