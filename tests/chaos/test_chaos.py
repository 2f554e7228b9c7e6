"""A minute of it, with two workers: what a full run does with four."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("chaos"), pytest.mark.timeout(420)]


def test_a_minute_of_faults_breaks_no_promise() -> None:
    options = ["--runs", "150", "--seconds", "40", "--workers", "2", "--clients", "8", "--seed", "7"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *options], capture_output=True, text=True, check=False, timeout=400
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
