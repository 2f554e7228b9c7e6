"""`cadence plugin new`, `run` and `pack`: what an author does without a stack."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import app, plugins
from deploy.errors import DeployError
from deploy.plugins.packing import NothingToPack, pack
from deploy.plugins.scaffold import FolderExists, NameRefused, create_plugin
from shared.packages.archive import read_package

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "plugins_sdk" / "examples"


def plugin(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plugin", *arguments], env={"COLUMNS": "200"})


def test_every_plugin_command_has_help_with_an_example() -> None:
    for command in plugins.registered_commands:
        result = plugin(str(command.name), "--help")
        assert result.exit_code == 0
        assert f"Example: cadence plugin {command.name} " in result.output


def test_a_new_plugin_passes_its_own_tests(tmp_path: Path) -> None:
    folder = create_plugin("weather-report", tmp_path)

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        # An author has pytest and nothing that plugs into it.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "3 passed" in run.stdout, run.stdout


def test_a_new_plugin_has_the_name_and_pid_it_was_given(tmp_path: Path) -> None:
    result = plugin("new", "weather_report", "--pid", "io.acme.rain", "--in", str(tmp_path))

    assert result.exit_code == 0
    source = (tmp_path / "weather_report" / "plugin.py").read_text()
    assert 'pid="io.acme.rain"' in source
    assert 'name="Weather report"' in source
    assert "emplate" not in "".join(p.read_text() for p in (tmp_path / "weather_report").rglob("*") if p.is_file())


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    create_plugin("weather", tmp_path)
    (tmp_path / "weather" / "plugin.py").write_text("mine")

    with pytest.raises(FolderExists, match="exists already"):
        create_plugin("weather", tmp_path)
    assert (tmp_path / "weather" / "plugin.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "1st", "two words", "../up", "a/b", "-x", "ü", "x" * 65])
def test_a_name_that_is_none_makes_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(NameRefused):
        create_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pid", ["weather", "com..weather", "com/weather", "1com.weather"])
def test_a_pid_that_is_none_makes_nothing(pid: str, tmp_path: Path) -> None:
    with pytest.raises(NameRefused, match="reversed domain name"):
        create_plugin("weather", tmp_path, pid=pid)
    assert list(tmp_path.iterdir()) == []


def test_a_package_holds_the_plugin_and_nothing_that_is_not_part_of_it(tmp_path: Path) -> None:
    folder = create_plugin("weather", tmp_path)
    for litter in (".git/config", "__pycache__/x.pyc", "inner/__pycache__/x.pyc", ".env", "dist/x.py", "old.zip"):
        (folder / litter).parent.mkdir(parents=True, exist_ok=True)
        (folder / litter).write_text("litter")
    (folder / "inner" / "tests").mkdir()
    (folder / "inner" / "tests" / "data.json").write_text("{}")
    (tmp_path / "secret").write_text("s3cret")
    (folder / "link").symlink_to(tmp_path / "secret")

    assert sorted(read_package(pack(folder)).files) == ["README.md", "inner/tests/data.json", "plugin.py"]


def test_the_same_sources_are_the_same_bytes(tmp_path: Path) -> None:
    one, other = create_plugin("weather", tmp_path / "a"), create_plugin("weather", tmp_path / "b")
    os.utime(other / "plugin.py", (0, 0))
    (other / "plugin.py").chmod(0o600)

    result = plugin("pack", str(one), "-o", str(tmp_path / "one.zip"), "--json")
    plugin("pack", str(other), "-o", str(tmp_path / "other.zip"))

    data = (tmp_path / "one.zip").read_bytes()
    assert data == (tmp_path / "other.zip").read_bytes()
    assert json.loads(result.output)["size_bytes"] == len(data)


def test_a_folder_without_a_plugin_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(NothingToPack, match=r"there is no plugin.py"):
        pack(tmp_path)


@pytest.mark.parametrize(
    ("example", "message", "options", "answer"),
    [
        ("addresses", "Look up the host localhost", [], "127.0.0.1"),
        ("share_links", "Share the document D-17", ["--set", "signing_key=k", "--set", "valid_minutes=5"], "/d/D-17?"),
        ("markdown_outline", "Outline the markdown text '# One'", [], "One"),
        ("help_desk", "Show the history of ticket T-1001", [], "The new one."),
    ],
)
def test_the_demo_model_uses_the_tools_of_every_example(
    example: str, message: str, options: list[str], answer: str
) -> None:
    result = plugin("run", str(EXAMPLES / example), "-m", message, "--json", *options)

    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.output.splitlines()]
    assert [event["event"] for event in events] == ["tool_start", "tool_end", "message"]
    assert answer in events[-1]["content"]


def test_a_chat_goes_on_until_the_input_ends(tmp_path: Path) -> None:
    folder = create_plugin("weather", tmp_path)

    result = CliRunner().invoke(app, ["plugin", "run", str(folder)], input="Please greet Ada\n\nPlease greet Grace\n")

    assert result.exit_code == 0
    assert '→ greet {"name": "Ada"}' in result.output
    assert "← greet Hello, Grace!" in result.output


BROKEN_TOOL = """
from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, uvtool

class Agent(BaseAgent):
    def get_tools(self):
        @uvtool
        def greet(name: str) -> str:
            "Greet a person by name."
            raise LookupError("nobody of that name")
        return [greet]

class Plugin(BasePlugin):
    @staticmethod
    def get_metadata():
        return PluginMetadata(pid="com.test.broken", name="Broken", version="1.0", description="d")

    @staticmethod
    def create_agent():
        return Agent()
"""


def test_what_a_tool_raises_is_shown_with_its_line_and_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(BROKEN_TOOL)

    result = plugin("run", str(tmp_path), "-m", "Please greet Ada")

    assert result.exit_code == 1
    assert "✗ greet LookupError: nobody of that name" in result.output
    assert 'plugin.py", line 9' in result.output
    assert "The tool greet failed." in result.output


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(:", "SyntaxError"),
        ("\nraise ValueError('no')", r"ValueError: no \(plugin.py, line 2\)"),
        ("x = 1", "no concrete subclass"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_says_why_and_where(source: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(source)

    result = plugin("run", str(tmp_path), "-m", "Hello")

    assert isinstance(result.exception, DeployError)
    with pytest.raises(DeployError, match=reason):
        raise result.exception


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("greeting", "KEY=VALUE"), ("nope=1", "no setting 'nope'")],
)
def test_settings_that_cannot_be_are_refused(setting: str, reason: str, tmp_path: Path) -> None:
    folder = create_plugin("weather", tmp_path)

    result = plugin("run", str(folder), "-m", "Hello", "--set", setting)

    assert reason in str(result.exception)
