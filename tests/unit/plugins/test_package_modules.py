"""Modules of packages live under private names, side by side, and go away."""

import gc
import sys
import weakref
from pathlib import Path

import pytest

from shared.packages.contents import find_plugin_class
from shared.packages.modules import ROOT_PREFIX, PackageModules
from tests.fakes.plugin_packages import plugin_source, unpacked, zipped


def loaded(home: Path, folder: str = "weather", **files: str) -> PackageModules:
    """The modules of a package with these files; `a__b` is `a/b.py`."""
    names = {f"{folder}/{name.replace('__', '/')}.py": text for name, text in files.items()}
    return PackageModules(unpacked(zipped({**names}), home), "d" * 64, folder=folder)


@pytest.mark.parametrize(
    "statement",
    [
        "import tides; value = tides.HIGH",
        "import tides as t; value = t.HIGH",
        "from tides import HIGH as value",
        "from .tides import HIGH as value",
        "from . import tides; value = tides.HIGH",
        "from weather.tides import HIGH as value",
        "import weather.tides; value = weather.tides.HIGH",
        "from sea.deep import HIGH as value",
        "import sea.deep; value = sea.deep.HIGH",
        "from sea import deep; value = deep.HIGH",
        "from .sea.deep import HIGH as value",
        "def late():\n    import tides\n    return tides.HIGH\nvalue = late()",
    ],
)
def test_modules_beside_the_plugin_are_imported_in_every_way(tmp_path: Path, statement: str) -> None:
    modules = loaded(tmp_path, plugin=statement, tides="HIGH = 'high'", sea__deep="from tides import HIGH")

    assert modules.load().value == "high"
    modules.unload()


def test_a_module_beside_the_plugin_comes_before_an_installed_one_but_never_before_the_sdk(tmp_path: Path) -> None:
    modules = loaded(
        tmp_path,
        plugin="import json, cadence_sdk\nown, sdk = json.OWN, cadence_sdk.BasePlugin",
        json="OWN = True",
        cadence_sdk="BasePlugin = None",
    )

    plugin = modules.load()

    assert plugin.own
    assert plugin.sdk is not None
    modules.unload()


def test_nothing_of_a_package_can_be_imported_by_others(tmp_path: Path) -> None:
    path, names = list(sys.path), set(sys.modules)
    modules = loaded(tmp_path, plugin="import tides_of_a_package", tides_of_a_package="")
    modules.load()

    assert sys.path == path
    assert all(name.startswith(ROOT_PREFIX) for name in set(sys.modules) - names)
    with pytest.raises(ModuleNotFoundError):
        __import__("tides_of_a_package")
    modules.unload()
    assert not any(name.startswith(modules.root) for name in sys.modules)


def test_two_versions_live_side_by_side(tmp_path: Path) -> None:
    first = loaded(tmp_path / "1", plugin="import tides\nseen = [tides.N]", tides="N = 1")
    second = loaded(tmp_path / "2", plugin="import tides\nseen = [tides.N]", tides="N = 2")

    assert (first.load().seen, second.load().seen) == ([1], [2])
    first.unload()
    assert second.load().seen == [2]
    second.unload()


def test_the_same_package_loaded_twice_shares_no_state(tmp_path: Path) -> None:
    loads = [loaded(tmp_path, plugin="seen = []") for _ in range(2)]
    one, other = (modules.load() for modules in loads)

    one.seen.append("secret of one tenant")

    assert other.seen == []
    for modules in loads:
        modules.unload()


def test_unloading_frees_the_code(tmp_path: Path) -> None:
    modules = loaded(tmp_path, plugin=plugin_source(), tides="class Tide: pass")
    tide = weakref.ref(modules.load("tides").Tide)
    plugin = weakref.ref(find_plugin_class(modules.load(), modules) or object)
    assert None not in (tide(), plugin())

    modules.unload()
    gc.collect()

    assert (tide(), plugin()) == (None, None)


def test_the_first_concrete_plugin_class_is_the_plugin(tmp_path: Path) -> None:
    source = plugin_source() + "\nclass Unfinished(BasePlugin): pass\nclass Later(Plugin): pass\n"
    modules = loaded(
        tmp_path, plugin="from .base import Base\n" + source, base=plugin_source().replace("Plugin(B", "Base(B")
    )

    found = find_plugin_class(modules.load(), modules)

    assert found is not None
    assert found.__name__ == "Plugin"
    modules.unload()


def test_files_beside_the_plugin_are_where_it_looks_for_them(tmp_path: Path) -> None:
    source = "import pathlib\ntext = (pathlib.Path(__file__).parent / 'tides.txt').read_text()"
    directory = unpacked(zipped({"plugin.py": source, "tides.txt": "high"}), tmp_path)
    modules = PackageModules(directory, "d" * 64)

    assert modules.load().text == "high"
    assert not list(tmp_path.rglob("__pycache__"))
    modules.unload()
