"""Dependencies on an author's machine."""

import subprocess
import sys
from typing import Any

import pytest
from cadence_sdk import check_dependency_installed, install_dependencies
from cadence_sdk.utils.installers import (
    check_plugin_dependencies,
    extract_package_name,
    get_installed_version,
    install_plugin_dependencies,
)

ABSENT = "no-such-package-anywhere"


@pytest.mark.parametrize(
    ("spec", "name"),
    [("requests>=2.28", "requests"), ("numpy", "numpy"), ("a-b[extra]==1; python_version>'3'", "a-b"), ("x<2", "x")],
)
def test_a_requirement_begins_with_a_name(spec: str, name: str) -> None:
    assert extract_package_name(spec) == name


def test_what_can_be_imported_is_installed() -> None:
    assert check_dependency_installed("json")
    assert not check_dependency_installed("no_such_module")
    assert not check_dependency_installed("no_such_package.module")
    assert get_installed_version("pydantic")
    assert get_installed_version(ABSENT) == ""


def test_missing_dependencies_are_listed() -> None:
    assert check_plugin_dependencies(["pydantic>=2", ABSENT], "p") == (False, [ABSENT])
    assert install_plugin_dependencies([], "p") == (True, [])
    assert install_plugin_dependencies([ABSENT], "p", auto_install=False) == (False, [ABSENT])


class Pip:
    """Stands in for the subprocess: installing for real would need an index."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
        self.commands: list[list[str]] = []

        def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            self.commands.append(command)
            if isinstance(outcome, Exception):
                raise outcome
            return subprocess.CompletedProcess(command, outcome, "", "no matching distribution")

        monkeypatch.setattr(subprocess, "run", run)


def test_pip_of_this_interpreter_is_run_and_never_a_package_as_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(monkeypatch, 0)

    assert install_dependencies(["--evil"], upgrade=True) == (True, "Installed --evil")
    assert pip.commands == [[sys.executable, "-m", "pip", "install", "--upgrade", "--quiet", "--", "--evil"]]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (1, "no matching distribution"),
        (subprocess.TimeoutExpired("pip", 300), "300 seconds"),
        (OSError("gone"), "gone"),
    ],
)
def test_failures_are_reasons_and_not_exceptions(monkeypatch: pytest.MonkeyPatch, outcome: Any, reason: str) -> None:
    Pip(monkeypatch, outcome)

    succeeded, message = install_dependencies([ABSENT])

    assert not succeeded
    assert reason in message


def test_nothing_to_install_is_a_success() -> None:
    assert install_dependencies([]) == (True, "No packages to install")
