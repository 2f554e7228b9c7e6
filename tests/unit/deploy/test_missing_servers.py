"""A suite that could not run must not read as green."""

from io import StringIO
from pathlib import Path
from typing import NoReturn

import pytest
from _pytest.outcomes import Failed, Skipped
from _pytest.reports import TestReport

from deploy.errors import ServerUnavailable
from deploy.local.server import Server
from tests import conftest
from tests.backing import find

VARIABLE = "CADENCE_TEST_NOWHERE_URL"


def unavailable(_: Path) -> NoReturn:
    raise ServerUnavailable("RabbitMQ is not installed")


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "engine_answers", lambda: False)
    monkeypatch.delenv("CADENCE_TEST_REQUIRE", raising=False)


def ask() -> str:
    with find.located(VARIABLE, unavailable, image="none") as url:
        return url


def test_a_server_named_by_its_variable_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "amqp://elsewhere/")
    assert ask() == "amqp://elsewhere/"


def test_a_test_without_its_server_is_skipped_with_the_reason() -> None:
    with pytest.raises(Skipped, match=f"RabbitMQ is not installed .*{VARIABLE}"):
        ask()


def test_it_fails_where_everything_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADENCE_TEST_REQUIRE", "all")
    with pytest.raises(Failed, match="RabbitMQ is not installed"):
        ask()


def test_a_server_that_fails_to_start_is_an_error_and_not_a_skip() -> None:
    class Broken(RuntimeError):
        pass

    def broken(_: Path) -> Server:
        raise Broken

    with pytest.raises(Broken), find.located(VARIABLE, broken, image="none"):
        pass


def test_the_end_of_the_run_names_every_missing_server_once(pytestconfig: pytest.Config) -> None:
    reporter = pytest.TerminalReporter(pytestconfig, StringIO())
    for number, reason in enumerate([f"{find.MISSING}RabbitMQ is not installed"] * 2 + ["only on macOS"]):
        where = ("test_x.py", number, f"Skipped: {reason}")
        report = TestReport(f"test_x.py::{number}", ("test_x.py", 0, ""), {}, "skipped", where, "setup")
        reporter.stats.setdefault("skipped", []).append(report)
    output = StringIO()
    reporter._tw._file = output
    conftest.pytest_terminal_summary(reporter)
    assert "servers that were not found" in output.getvalue()
    assert "2 tests not run: RabbitMQ is not installed" in output.getvalue()
    assert "macOS" not in output.getvalue()
