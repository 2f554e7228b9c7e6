"""`cadence plugin check`: the checks of an upload on an author's machine."""

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import app
from deploy.demo.package import PLUGIN_DIRECTORY
from deploy.plugins.checking import default_cache
from deploy.plugins.packing import pack
from deploy.plugins.scaffold import create_plugin
from shared.packages import digest_of

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(path for path in (ROOT / "plugins_sdk" / "examples").iterdir() if (path / "plugin.py").is_file())

PLUGIN = """
from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, uvtool
{top}

@uvtool
def shout(text: str) -> str:
    "Shout a text."
    {body}

class Agent(BaseAgent):
    def get_tools(self):
        return [shout]

class Plugin(BasePlugin):
    @staticmethod
    def get_metadata():
        return PluginMetadata(pid="{pid}", name="Shout", version="1.0", description="d", dependencies={dependencies})

    @staticmethod
    def create_agent():
        return Agent()
"""


def source(
    *, top: str = "", body: str = "return text", pid: str = "com.test.shout", dependencies: tuple[str, ...] = ()
) -> str:
    return PLUGIN.format(top=top, body=body, pid=pid, dependencies=list(dependencies))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environment(cache: Path) -> dict[str, str]:
    # An index that answers nothing: whatever is asked of one fails.
    return {"CADENCE_PACKAGE_CACHE": str(cache), "CADENCE_PLUGIN_INDEX_URL": "http://127.0.0.1:1/simple"}


@pytest.fixture
def clean_path() -> Iterator[None]:
    """`run` makes dependencies importable in this process."""
    before = list(sys.path)
    yield
    sys.path[:] = before
    sys.modules.pop("loudness", None)


def plugin(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(app, ["plugin", *arguments], env=environment)


def findings(environment: dict[str, str], path: Path) -> list[dict[str, object]]:
    result = plugin(environment, "check", str(path), "--json")
    assert result.exit_code == 1, result.output
    found: list[dict[str, object]] = json.loads(result.stdout)["findings"]
    return found


def add_wheel(folder: Path) -> None:
    """A package of one module inside the plugin, so that no index is needed for it."""
    content = {
        "loudness.py": "def up(text):\n    return text.upper() + '!'\n",
        "loudness-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: loudness\nVersion: 1.0\n",
        "loudness-1.0.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = "".join(f"{name},,\n" for name in [*content, "loudness-1.0.dist-info/RECORD"])
    (folder / "wheels").mkdir()
    with zipfile.ZipFile(folder / "wheels" / "loudness-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**content, "loudness-1.0.dist-info/RECORD": record}.items():
            wheel.writestr(name, text)


@pytest.mark.parametrize(
    "folder",
    [PLUGIN_DIRECTORY, *(path for path in EXAMPLES if path.name != "markdown_outline")],
    ids=lambda path: path.name,
)
def test_every_example_would_be_taken(folder: Path, environment: dict[str, str]) -> None:
    result = plugin(environment, "check", str(folder))

    assert result.exit_code == 0, result.output
    assert "would be taken" in result.output


def test_a_new_plugin_would_be_taken_as_folder_and_as_zip(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = create_plugin("weather", tmp_path)
    (tmp_path / "weather.zip").write_bytes(pack(folder))

    checked = [
        json.loads(plugin(environment, "check", str(path), "--json").stdout)
        for path in (folder, tmp_path / "weather.zip")
    ]

    assert checked[0] == checked[1]
    assert checked[0]["digest"] == digest_of(pack(folder))
    assert [tool["name"] for tool in checked[0]["manifest"]["tools"]] == ["greet"]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("import os\n\ndef f(:\n", "invalid syntax", 3),
        (source(top="raise LookupError('no luck')"), "importing plugin.py raised LookupError: no luck", 3),
    ],
)
def test_a_finding_names_file_and_line(
    text: str, message: str, line: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "plugin.py").write_text(text)

    (finding,) = findings(environment, tmp_path)

    assert message in str(finding["message"])
    assert (finding["file"], finding["line"]) == ("plugin.py", line)
    shown = plugin(environment, "check", str(tmp_path)).output
    assert f"{tmp_path}/plugin.py:{line}" in shown.replace("\n", "")


def test_all_findings_come_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    requirements = ("requests @ https://example.com/r.whl", "--index-url x", *(f"p{number}" for number in range(19)))
    (tmp_path / "plugin.py").write_text(source(pid="shout", dependencies=requirements))

    messages = " | ".join(str(finding["message"]) for finding in findings(environment, tmp_path))

    for part in ("reverse domain name", "21 dependencies, at most 20", "not a URL", "'--index-url x' is not a requ"):
        assert part in messages


def test_a_zip_is_checked_as_it_is(tmp_path: Path, environment: dict[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("plugin.py", source())
        archive.writestr("../up.py", "")
        archive.writestr("x.pth", "import os")

    codes = [finding["code"] for finding in findings(environment, tmp_path / "bad.zip")]

    assert codes == ["name", "not_source"]


def test_dependencies_inside_the_package_need_no_index_and_are_there_to_run(
    tmp_path: Path, environment: dict[str, str], clean_path: None
) -> None:
    (tmp_path / "plugin.py").write_text(
        source(top="import loudness", body="return loudness.up(text)", dependencies=("loudness>=1",))
    )
    add_wheel(tmp_path)
    wheel = (tmp_path / "wheels" / "loudness-1.0-py3-none-any.whl").read_bytes()

    checked = json.loads(plugin(environment, "check", str(tmp_path), "--json").stdout)
    ran = plugin(environment, "run", str(tmp_path), "-m", "Shout the text 'hello'")

    assert f"loudness==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel).hexdigest()}" in checked["lock"]
    assert ran.exit_code == 0, ran.output
    assert "← shout HELLO!" in ran.output


def test_an_import_that_no_dependency_declares_is_told_by_check_and_by_run(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "plugin.py").write_text(source(top="import no_such_module"))

    (finding,) = findings(environment, tmp_path)
    ran = plugin(environment, "run", str(tmp_path), "-m", "Hello")

    assert "needs the module 'no_such_module'" in str(finding["message"])
    assert finding["line"] == 3
    assert str(ran.exception) == finding["message"]


def test_an_index_that_does_not_answer_says_nothing_about_the_plugin(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "plugin.py").write_text(source(dependencies=("no-such-package-anywhere",)))

    result = plugin(environment, "check", str(tmp_path))

    assert "cannot be checked now: The package index does not answer" in str(result.exception)


def test_what_is_no_package_at_all_is_one_sentence(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "text.zip").write_text("text")

    (finding,) = findings(environment, tmp_path / "text.zip")
    missing = plugin(environment, "check", str(tmp_path / "nothing"))

    assert finding["message"] == "this is not a zip file"
    assert "cannot be read: No such file or directory" in str(missing.exception)


def test_the_cache_is_the_users_own_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CADENCE_PACKAGE_CACHE", raising=False)

    assert default_cache() == tmp_path / "cadence" / "plugins"
