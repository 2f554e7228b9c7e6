"""The `cadence` command by itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import app

COMMANDS = [command.name for command in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example: " in result.output


@pytest.mark.parametrize("command", ["status", "health", "stats", "psql", "mongo", "redis", "chat", "token"])
def test_what_needs_a_running_stack_says_so_with_exit_code_3(command: str, tmp_path: Path) -> None:
    run = cadence(command, "--data-dir", str(tmp_path))
    assert run.returncode == 3
    assert "start it with `cadence up`" in run.stderr
    assert run.stderr.count("\n") == 1


def test_down_without_a_running_stack_has_nothing_to_do(tmp_path: Path) -> None:
    run = cadence("down", "--data-dir", str(tmp_path))
    assert (run.returncode, run.stdout) == (0, "Nothing is running.\n")


def test_a_plane_without_settings_lists_what_is_missing_with_exit_code_2(tmp_path: Path) -> None:
    run = cadence("control-plane", "--data-dir", str(tmp_path))
    assert run.returncode == 2
    assert "CADENCE_POSTGRES_URL is not set" in run.stderr
    assert "CADENCE_SECRET_KEY is not set" in run.stderr


def test_openapi_needs_no_server_and_no_settings() -> None:
    document = json.loads(cadence("openapi").stdout)
    assert document["openapi"].startswith("3.1")
    assert "/api/auth/login" in document["paths"]


def test_up_without_the_embedded_servers_says_how_to_get_them() -> None:
    program = "import sys; sys.modules['psutil'] = None; sys.argv = ['cadence', 'up']; import deploy.cli as c; c.main()"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "psutil is missing" in run.stderr
    assert run.stderr.count("\n") == 1


def cadence(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments], capture_output=True, text=True, check=False, env={"PATH": ""}
    )
