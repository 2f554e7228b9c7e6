"""Uploads of plugins with dependencies: read with stand-ins, locked, installed, and run for real."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shared.errors import PackageIndexUnavailable, PluginRefused
from shared.packages.environments import Environments
from shared.packages.inspection.inspector import Inspector
from shared.packages.inspection.preparation import Preparation
from tests.fakes.plugin_packages import package, plugin_source, zipped
from tests.fakes.wheels import WHEELS, lock_line, wheel_name

TIDES = "dependencies=['tides']"


@pytest.fixture
def preparation(tmp_path: Path, index: str) -> Preparation:
    environments = Environments(tmp_path / "environments", index_url=index)
    return Preparation(Inspector(environments), environments, index_url=index)


async def refusal(preparation: Preparation, data: bytes) -> str:
    with pytest.raises(PluginRefused) as refused:
        await preparation.prepare(data)
    return "\n".join(f"{error.field}: {error.message}" for error in refused.value.errors)


async def test_a_plugin_that_imports_its_dependency_at_the_top_is_inspected_with_it(preparation: Preparation) -> None:
    data = package(
        top="""
            import tides
            from tides import VERSION
            import tides as t
            TITLE = f"tides {t.VERSION}"
        """,
        tools="""
            @uvtool(description=TITLE)
            def add(a: int) -> str:
                return VERSION
        """,
        metadata=TIDES,
    )

    prepared = await preparation.prepare(data)

    assert [tool.description for tool in prepared.manifest.tools] == ["tides 2.0"]
    assert prepared.manifest.requires == ("tides",)
    assert [line.split(" ")[0] for line in prepared.lock.splitlines() if "==" in line] == ["moon==0.5", "tides==2.0"]


async def test_two_plugins_may_need_versions_that_exclude_each_other(preparation: Preparation) -> None:
    packages = [
        package(
            top="import tides",
            tools=f"assert tides.VERSION == {version!r}\n@uvtool\ndef add(): ...",
            metadata=f"dependencies=['tides=={version}']",
        )
        for version in ("1.0", "2.0")
    ]

    one, two = await asyncio.gather(*map(preparation.prepare, packages))

    assert "tides==1.0" in one.lock
    assert "tides==2.0" in two.lock


@pytest.mark.parametrize(
    "top",
    [
        # What authors do with a library while their module is imported.
        """
        import tides.charts as charts
        from tides.models import Model, field
        class Chart(Model):
            depth: float = field(0)
        class Broken(charts.Error, Exception): ...
        """,
        """
        from pydantic import BaseModel
        from tides import Harbour
        class Query(BaseModel):
            harbour: Harbour
            others: list[Harbour] | None = None
        @uvtool(args_schema=Query)
        def look(harbour, others): return 1
        """,
        """
        import tides
        @tides.cached(seconds=3)
        def a(): ...
        @tides.cached
        def b(): ...
        with tides.options(x=1) as o: pass
        for harbour in tides.HARBOURS: pass
        if tides.__version__ >= "3": raise ImportError
        """,
    ],
)
async def test_stand_ins_bear_what_modules_do_when_they_are_imported(top: str, tmp_path: Path) -> None:
    environments = Environments(tmp_path / "environments")
    data = package(top=top, metadata=TIDES)
    from shared.packages import digest_of
    from shared.packages.archive import read_package

    report = await Inspector(environments).inspect(read_package(data), digest_of(data))

    assert report.findings == ()
    assert (report.is_complete, report.requires) == (False, ("tides",))
    assert report.manifest is not None
    assert report.manifest.tools == ()


async def test_a_plugin_too_demanding_for_stand_ins_is_read_without_running_it(preparation: Preparation) -> None:
    data = package(top="import tides\nassert float(tides.VERSION) > 1.5", metadata=TIDES)

    assert "tides==2.0" in (await preparation.prepare(data)).lock


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"top": "import tides"}, "needs the module 'tides', which none of its declared dependencies brings"),
        ({"top": "import numpie"}, "needs the module 'numpie', which none of its declared dependencies brings"),
        (
            {"top": "import tides.absent", "metadata": TIDES},
            "needs the module 'tides.absent', which is not in the installed package",
        ),
        (
            {"metadata": "dependencies=['numpie>=1']"},
            "dependencies: the dependencies cannot be installed: Because numpie",
        ),
        ({"metadata": "dependencies=['tides==1.0', 'tides==2.0']"}, "requirements are unsatisfiable"),
        ({"metadata": "dependencies=['pydantic<1']"}, "pydantic<1 is not available: this platform has 2"),
        ({"metadata": "dependencies=['tides @ file:///etc']"}, "comes from the package index, not a URL"),
        ({"metadata": "dependencies=['../tides']"}, "is not a requirement such as"),
        ({"metadata": "dependencies=['--index-url=https://evil.example']"}, "is not a requirement such as"),
        ({"metadata": f"dependencies={[f'p{i}' for i in range(21)]}"}, "21 dependencies, at most 20"),
        (
            {"top": "import tides\nclass Tides(tides.Base): ...", "metadata": TIDES},
            "importing plugin.py raised AttributeError",
        ),
    ],
)
async def test_what_is_wrong_with_dependencies_is_told_in_an_authors_words(
    options: dict[str, Any], reason: str, preparation: Preparation
) -> None:
    assert reason in await refusal(preparation, package(**options))


async def test_metadata_that_changes_with_the_environment_is_refused(preparation: Preparation) -> None:
    source = plugin_source(
        top="""
            try:
                import tides
                WANTED = [] if tides.VERSION == "2.0" else ["tides"]
            except ImportError:
                WANTED = ["tides"]
        """,
        metadata="dependencies=WANTED",
    )

    assert "the metadata must be the same whenever it is asked for" in await refusal(preparation, package(source))


async def test_a_lock_in_the_package_is_taken_as_it_is(preparation: Preparation) -> None:
    lock = "# by uv\n" + lock_line("tides", "1.0", WHEELS["tides", "1.0"]) + lock_line("pydantic", "1.0", b"")
    data = zipped({"plugin.py": plugin_source(top="import tides", metadata=TIDES), "requirements.lock": lock})

    prepared = await preparation.prepare(data)

    assert prepared.lock.startswith("tides==1.0 \\\n")
    assert "pydantic" not in prepared.lock


@pytest.mark.parametrize(
    ("lock", "reason"),
    [
        ("--index-url https://evil.example\n", "requirements.lock: line 1"),
        ("tides==1.0\n", "each package needs its hashes"),
        ("", "requirements.lock: the dependency tides is not in it"),
        (b"\xff\xfe", "requirements.lock is not UTF-8 text"),
        (lock_line("tides", "1.0", b"other"), "Hash mismatch for `tides==1.0`"),
    ],
)
async def test_a_lock_that_cannot_be_used_is_told(lock: str | bytes, reason: str, preparation: Preparation) -> None:
    data = zipped({"plugin.py": plugin_source(metadata=TIDES), "requirements.lock": lock})

    assert reason in await refusal(preparation, data)


async def test_wheels_in_the_package_are_used_without_any_index(tmp_path: Path) -> None:
    away = "http://127.0.0.1:1/simple"
    environments = Environments(tmp_path / "environments", index_url=away)
    preparation = Preparation(Inspector(environments), environments, index_url=away)
    source = plugin_source(top="import tides", metadata=TIDES)
    data = zipped({"plugin.py": source, f"wheels/{wheel_name('tides', '1.0')}": WHEELS["tides", "1.0"]})

    assert "tides==1.0" in (await preparation.prepare(data)).lock
    with pytest.raises(PackageIndexUnavailable):
        await preparation.prepare(package(source))
