"""A process forgets what it was told once it has read it."""

import os
import subprocess
import sys

import pytest

from shared.security.environment import forget_settings

PROGRAM = """
import os, subprocess
from shared.security.environment import forget_settings
forget_settings(os.environ)
print([name for name in os.environ if name.startswith("CADENCE_")], os.environ["OTHER"])
print(subprocess.run(["env"], capture_output=True, text=True).stdout)
print(open("/proc/self/environ", "rb").read())
"""


def test_only_variables_of_ours_are_removed() -> None:
    variables = {"CADENCE_SECRET_KEY": "x", "CADENCE_REDIS_URL": "y", "PATH": "/bin"}
    forget_settings(variables)
    assert variables == {"PATH": "/bin"}


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_neither_children_nor_the_kernel_tell_a_forgotten_secret() -> None:
    environment = {"PATH": os.environ["PATH"], "CADENCE_SECRET_KEY": "hush-hush", "OTHER": "stays"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)

    assert run.stdout.startswith("[] stays")
    assert "OTHER=stays" in run.stdout
    assert "hush" not in run.stdout
