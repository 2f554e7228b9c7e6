"""Where a test's server comes from: its environment URL, else a server of our own, else a container, else nowhere."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.errors import ServerFailed, ServerUnavailable
from deploy.local.server import Server
from tests.backing.containers import container_url, engine_answers

MISSING = "no server for this test: "
"""How the reason of such a skip begins, so that the summary at the end of the run can name the servers."""


@contextmanager
def located(variable: str, own: Callable[[Path], Server], *, image: str) -> Iterator[str]:
    """The URL of a server, kept running for the block. Skips, or fails under `CADENCE_TEST_REQUIRE=all`."""
    if url := os.environ.get(variable):
        yield url
        return
    try:
        with running(own) as server:
            yield server.url
            # Tests that came after its end failed for no reason of their own; this says what the reason was.
            assert server.is_running, server.failure(f"ended under the tests with exit code {server.exit_code}")
            return
    except ServerUnavailable as error:
        reason = str(error)
    if engine_answers():
        with container_url(image) as url:
            yield url
            return
    give_up(f"{reason} (or set {variable}, or start a Docker engine)")


@contextmanager
def running(own: Callable[[Path], Server]) -> Iterator[Server]:
    """A server of our own with fresh data, which disappears with the block. Raises ServerUnavailable."""
    home = Path(tempfile.mkdtemp(prefix="cadence-test-"))
    try:
        server = _started(own, home)
        try:
            yield server
        finally:
            server.kill()  # its data goes too, so nothing is gained by an orderly end
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _started(own: Callable[[Path], Server], home: Path) -> Server:
    """A port is free when it is looked for, and somebody else's before a server has it, of which some take nine: then
    once more, with others."""
    try:
        server = own(home)
        server.start()
    except ServerFailed:
        again = home / "again"
        again.mkdir()
        server = own(again)
        server.start()
    return server


def give_up(reason: str) -> NoReturn:
    """A suite that is skipped reads as green, so where everything is required it is a failure."""
    if os.environ.get("CADENCE_TEST_REQUIRE") == "all":
        pytest.fail(MISSING + reason, pytrace=False)
    pytest.skip(MISSING + reason)
