import resource
from collections.abc import Iterator

import pytest
import structlog

from shared.open_files import allow_open_files


@pytest.fixture(autouse=True)
def limit() -> Iterator[tuple[int, int]]:
    """Of the test's process, put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_to_the_hard_one(limit: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    allowed = allow_open_files()
    assert allowed == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256


def test_a_hard_limit_that_is_too_low_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    with structlog.testing.capture_logs() as logs:
        assert allow_open_files() == 1024
    assert [entry["event"] for entry in logs] == ["open_files_limit_low"]
