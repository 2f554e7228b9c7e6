"""The tutorial is true: its plugin is written down, tested by its test, and keeps its promises. Its commands are run
against a whole stack by the platform's end-to-end tests.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from cadence_sdk import validate_plugin_structure
from cadence_sdk.testing import load_plugin

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def write_snippets(folder: Path) -> Path:
    """The plugin of the tutorial, laid out as it says."""
    plugin, test = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (folder / "tests").mkdir(parents=True)
    (folder / "plugin.py").write_text(plugin)
    (folder / "tests" / "test_plugin.py").write_text(test)
    return folder


def test_the_plugin_of_the_tutorial_is_a_good_one(tmp_path: Path) -> None:
    assert validate_plugin_structure(load_plugin(write_snippets(tmp_path / "weather"))) == (True, [])


def test_the_test_of_the_tutorial_passes(tmp_path: Path) -> None:
    folder = write_snippets(tmp_path / "weather")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=tmp_path,
        # An author has pytest and nothing that plugs into it.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]

    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_name_that_the_readme_shows_of_the_harness_is_one() -> None:
    from cadence_sdk import testing

    harness = re.findall(r"harness\.(\w+)", README)

    assert [name for name in harness if not hasattr(testing.PluginHarness, name) and name != "tools"] == []
    assert all(hasattr(testing, name) for name in re.findall(r"`(\w+Refused|ToolUnknown|load_plugin)\b", README))


def test_the_newest_version_of_the_changelog_is_this_one() -> None:
    from cadence_sdk import __version__

    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == __version__
