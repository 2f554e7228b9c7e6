"""The tutorial of the SDK, followed to the letter against a whole stack: from nothing to a tool in a chat."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.demo.seed import seed
from deploy.local.ports import free_port
from tests.e2e.running import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "plugins_sdk" / "README.md").read_text()
# The suite runs inside the environment that `uv run` would make, so the function only takes the words away.
AS_IN_THIS_ENVIRONMENT = """
uv() {
    shift
    case "$1" in
        cadence) shift; "$PYTHON" -m deploy.cli "$@" ;;
        pytest) shift; "$PYTHON" -m pytest -q -p no:cacheprovider "$@" ;;
    esac
}
"""
UP = "pip install uv && uv run cadence up --demo\n"


class Ended(msgspec.Struct):
    code: int
    output: str


class Author:
    """Somebody at a terminal, in a directory with nothing in it, beside a running stack."""

    def __init__(self, home: Path, stack: RunningStack) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "CADENCE_DATA_DIR": str(stack.data_dir),
            "COLUMNS": "200",
            # An author has pytest and nothing that plugs into it.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }

    def runs(self, block: str) -> Ended:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", AS_IN_THIS_ENVIRONMENT + block],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout)


@pytest.fixture(scope="module")
def demo(stack: RunningStack) -> Iterator[RunningStack]:
    """The stack with what `--demo` makes: the same model, the same seed."""
    port = free_port()
    model = subprocess.Popen([sys.executable, "-m", "deploy.demo.model_server", "--port", str(port)], cwd=ROOT)
    try:
        asyncio.run(seed(stack.url, *stack.credentials(), f"http://127.0.0.1:{port}/v1"))
        yield stack
    finally:
        model.terminate()
        model.wait(10)


@pytest.fixture
def author(demo: RunningStack, tmp_path: Path) -> Author:
    return Author(tmp_path, demo)


def blocks(kind: str) -> list[str]:
    """The code blocks of one language, "" for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [content for language, content in found if language == kind]


def commands() -> list[str]:
    """Every block of commands of the tutorial, in order, without the one that the stack stands for."""
    up, *others = [block for block in blocks("") if block.startswith(("uv ", "pip install uv"))]
    assert up == UP
    return others


def shown() -> list[str]:
    """The lines that the tutorial shows of what its commands print."""
    return [line for block in blocks("") if block.startswith("→") for line in block.splitlines()]


def test_it_takes_five_commands_and_the_readme_of_the_project_shows_the_same() -> None:
    assert commands()[0].count("uv run cadence") + 1 == 5
    assert f"```\n{commands()[0]}```" in (ROOT / "README.md").read_text()


def test_the_tutorial_works_from_nothing_to_the_last_command(author: Author, stack: RunningStack) -> None:
    first, own, pack = commands()

    greeted = author.runs(first)
    assert greeted.code == 0, greeted.output
    assert len(shown()) == 5
    assert [line for line in shown() if line not in greeted.output.splitlines()] == []

    plugin, test = blocks("python")
    (author.home / "weather" / "plugin.py").write_text(plugin)
    (author.home / "weather" / "tests" / "test_plugin.py").write_text(test)
    rained = author.runs(own)
    assert rained.code == 0, rained.output
    assert "1 passed" in rained.output
    assert "com.example.weather@1.1.0 is in Demo" in rained.output
    assert '→ com.example.weather.rain {"city": "Bonn"}' in rained.output

    token = author.runs("uv run cadence token")
    organization = author.runs("uv run cadence plugin push weather --org Demo --json")
    author.environment |= {
        "TOKEN": token.output.strip(),
        "CADENCE": stack.url,
        "ORG": msgspec.json.decode(organization.output)["org_id"],
    }
    uploaded = author.runs(pack)
    assert uploaded.code == 0, uploaded.output
    # The same bytes as the folder that was pushed, so it is the same row and no conflict.
    assert '"version":"1.1.0"' in uploaded.output


def test_what_the_server_refuses_is_told_reason_by_reason(author: Author) -> None:
    source = blocks("python")[0].replace('version="1.1.0"', 'version="1.9.banana"').replace("days: int", "days: object")
    (author.home / "plugin.py").write_text(source)

    as_text = author.runs("uv run cadence plugin push . --org Demo")
    as_json = author.runs("uv run cadence plugin push . --org Demo --json")

    assert (as_text.code, as_json.code) == (1, 1)
    assert "Could not upload the plugin" in as_text.output
    assert "'1.9.banana' is not a valid version" in as_text.output
    assert msgspec.json.decode(as_json.output)["code"] == "PL-0003"


def test_an_organization_that_is_none_lists_those_there_are(author: Author) -> None:
    author.runs("uv run cadence plugin new weather")

    ended = author.runs("uv run cadence plugin push weather --org Nowhere")

    assert ended.code == 2
    assert "There is no organization 'Nowhere'; there is: " in ended.output
    assert "Demo (" in ended.output
