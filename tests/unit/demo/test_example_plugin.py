"""The example plugin's tools, called as Cadence calls them, and its package."""

import asyncio
import io
import math
import shutil
import zipfile
from pathlib import Path

import pytest
from cadence_sdk import UvTool, validate_plugin_structure

from deploy.demo import seed
from deploy.demo.package import PLUGIN_DIRECTORY, demo_package
from deploy.demo.plugin.arithmetic import ExpressionRefused, evaluate
from deploy.demo.plugin.plugin import EverydayPlugin
from deploy.demo.plugin.units import UnitRefused, convert
from deploy.plugins.packing import pack


def tool(name: str, **settings: object) -> UvTool:
    agent = EverydayPlugin.create_agent()
    agent.initialize(settings)
    return next(t for t in agent.get_tools() if t.name == name)


def test_the_plugin_keeps_the_contract() -> None:
    assert validate_plugin_structure(EverydayPlugin) == (True, [])


async def test_calculate_answers_with_the_exact_value() -> None:
    assert await tool("calculate").ainvoke(expression="(3 + 4) * 2 ** 5") == "(3 + 4) * 2 ** 5 = 224"
    assert await tool("calculate").ainvoke(expression="0.1 + 0.2") == "0.1 + 0.2 = 0.3"


async def test_results_have_the_configured_digits() -> None:
    assert await tool("calculate", significant_digits=3).ainvoke(expression="sqrt(2)") == "sqrt(2) = 1.41"


async def test_convert_units_answers_with_both_amounts() -> None:
    answer = await tool("convert_units").ainvoke(value=5, from_unit="Miles", to_unit="km")

    assert answer == "5 mi = 8.04672 km"


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (72, "fahrenheit", "celsius", 22.2222222),
        (-40, "°C", "°F", -40),
        (1, "GB", "MiB", 953.6743164),
        (100, "km/h", "mph", 62.1371192),
        (12, "inches", "feet", 1),
        (2, "hours", "minutes", 120),
    ],
)
def test_units_convert_whatever_they_are_called(value: float, source: str, target: str, expected: float) -> None:
    assert math.isclose(convert(value, source, target)[2], expected, rel_tol=1e-8)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [("parsec", "km", "“parsec” is not known. Known are length: m, km"), ("kg", "km", "mass and “km” measures length")],
)
def test_units_that_do_not_fit_are_refused_with_the_reason(source: str, target: str, reason: str) -> None:
    with pytest.raises(UnitRefused, match=reason):
        convert(1, source, target)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("9**9**9", "too large"),
        ("1/0", "division by zero"),
        ("__import__('os').system('id')", "not arithmetic"),
        ("(1).__class__", "not arithmetic"),
        ("x + 1", "“x” is not known here; known are abs"),
        ("2 +", "is not an arithmetic expression"),
        ("(-8) ** 0.5", "not a real number"),
        ("10**300 * 10**300 * 1.0", "too large"),
        ("+".join("1" * 300), "too long"),
        ("'a' * 3", "not arithmetic"),
    ],
)
def test_what_is_not_arithmetic_is_refused_and_never_run(expression: str, reason: str) -> None:
    with pytest.raises(ExpressionRefused, match=reason):
        evaluate(expression)


def test_one_agent_serves_concurrent_calls() -> None:
    calculate = tool("calculate")

    async def all_of_them() -> list[str]:
        return list(await asyncio.gather(*(calculate.ainvoke(expression=f"{n} + 1") for n in range(20))))

    assert asyncio.run(all_of_them()) == [f"{n} + 1 = {n + 1}" for n in range(20)]


def test_the_package_has_the_same_bytes_wherever_and_whenever_it_is_packed(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(PLUGIN_DIRECTORY, copy)
    (copy / "__pycache__").mkdir(exist_ok=True)
    (copy / "__pycache__" / "plugin.cpython-311.pyc").write_bytes(b"compiled")
    (copy / "plugin.py").touch()

    assert pack(copy) == demo_package()


def test_the_package_is_the_plugin_that_the_seed_looks_for() -> None:
    with zipfile.ZipFile(io.BytesIO(demo_package())) as archive:
        assert "plugin.py" in archive.namelist()
        assert archive.testzip() is None
    metadata = EverydayPlugin.get_metadata()
    assert (metadata.pid, metadata.version) == (seed.PLUGIN_PID, seed.PLUGIN_VERSION)
