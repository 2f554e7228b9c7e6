"""What the catalogue takes."""

from typing import Any

import msgspec
import pytest

from control_plane.plugins.catalogue import version_order
from shared.packages.inspection.rules import default_problems, domain_problems, manifest_problems
from shared.snapshots import PluginManifest, ToolDescription

GOOD = PluginManifest(
    pid="com.acme.weather",
    version="1.0.0",
    name="Weather",
    description="Knows the weather",
    requires=("requests[socks]>=2.28; python_version > '3.8'",),
    tools=(ToolDescription("rain-today_2", "Says whether", {"type": "object"}),),
    settings_schema=({"key": "api_key", "type": "str", "description": "d"},),
)


def test_a_good_manifest_has_no_problems() -> None:
    assert manifest_problems(GOOD) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pid", "weather"),
        ("pid", "com.acme/../weather"),
        ("pid", "com..acme"),
        ("pid", ".com.acme"),
        ("pid", "com.acme\n"),
        ("pid", "com." + "a" * 200),
        ("version", "one.two"),
        ("version", "1.0/../2"),
        ("version", "1!2.0"),
        ("version", "1." + "0" * 100),
        ("name", "n" * 201),
        ("description", "d" * 1_000_000),
        ("description", "a\x00b"),
        ("system_prompt", "p" * 32_001),
        ("capabilities", ("c",) * 51),
        ("capabilities", ("c" * 201,)),
        ("requires", ("requests",) * 21),
        ("requires", ("requests @ https://evil.example/r.whl",)),
        ("requires", ("--index-url https://evil.example",)),
        ("requires", ("./local",)),
        ("requires", ("git+https://github.com/a/b",)),
        ("tools", (ToolDescription("rain today", "", {}),)),
        ("tools", (ToolDescription("t" * 65, "", {}),)),
        ("tools", (ToolDescription("t", "d" * 4001, {}),)),
        ("tools", (ToolDescription("t", "", {"title": "x" * 40_000}),)),
        ("tools", tuple(ToolDescription(f"t{i}", "", {}) for i in range(101))),
        ("settings_schema", ({"key": "a key", "type": "str"},)),
        ("settings_schema", ({"key": "k", "type": "str", "default": "x" * 40_000},)),
        ("settings_schema", ({"key": "k"},)),
        ("settings_schema", ({"key": "k", "type": ["str"]},)),
        ("settings_schema", tuple({"key": f"k{i}", "type": "str"} for i in range(101))),
    ],
)
def test_every_bound_is_kept(field: str, value: Any) -> None:
    assert len(manifest_problems(msgspec.structs.replace(GOOD, **{field: value}))) == 1


@pytest.mark.parametrize(
    "defaults",
    [
        {"other": "x"},
        {"api_key": 5},
        {"api_key": {"$sealed": "v1.k.AAAA"}},
        {"api_key": "x" * 40_000},
        {"api_key": "a\x00b"},
    ],
)
def test_a_default_is_what_its_setting_takes(defaults: dict[str, Any]) -> None:
    """The inspected plugin may write into its own report."""
    assert list(default_problems(GOOD, {"api_key": "fine"})) == []
    assert len(list(default_problems(GOOD, defaults))) == 1


def test_not_even_a_setting_of_type_dict_has_a_sealed_default() -> None:
    manifest = msgspec.structs.replace(GOOD, settings_schema=({"key": "options", "type": "dict"},))
    assert list(default_problems(manifest, {"options": {"a": 1}})) == []
    assert len(list(default_problems(manifest, {"options": {"$sealed_default": "v1.k.AAAA"}}))) == 1


@pytest.mark.parametrize(
    ("pid", "domain", "is_allowed"),
    [
        ("io.acme", "acme.io", True),
        ("io.acme.weather", "acme.io", True),
        ("IO.Acme.weather", "ACME.io", True),
        ("io.acmeevil.weather", "acme.io", False),
        ("com.other.weather", "acme.io", False),
        ("com.other.weather", None, True),
    ],
)
def test_a_domain_owns_its_reverse_and_all_below(pid: str, domain: str | None, is_allowed: bool) -> None:
    assert (not list(domain_problems(pid, domain))) is is_allowed


def test_versions_sort_as_versions() -> None:
    versions = ["1.10.0", "1.9.0", "1.10.0rc1", "0.9", "2.0"]
    assert sorted(versions, key=version_order) == ["0.9", "1.9.0", "1.10.0rc1", "1.10.0", "2.0"]
