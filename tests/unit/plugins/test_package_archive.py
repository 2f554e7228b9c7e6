"""The archive rules of the package contract, each by a zip that breaks it."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable

import pytest

from shared.errors import BodyTooLarge, PluginRefused
from shared.packages import archive
from shared.packages.archive import MAX_ENTRIES, MAX_PACKAGE_BYTES, read_package
from tests.fakes.plugin_packages import zipped

PLUGIN = "# a plugin"


def refused(data: bytes) -> list[str]:
    with pytest.raises(PluginRefused) as refusal:
        read_package(data)
    return [error.message for error in refusal.value.errors]


def with_entry(name: str, *, mode: int = 0, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zip_file:
        zip_file.writestr("plugin.py", PLUGIN)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        zip_file.writestr(info, content)
    return buffer.getvalue()


@pytest.mark.parametrize("folder", ["", "weather/"])
def test_files_are_read_by_their_place_beside_the_plugin(folder: str) -> None:
    files: dict[str, str | bytes] = {
        f"{folder}plugin.py": PLUGIN,
        f"{folder}pages/a.py": "A = 1",
        f"{folder}logo.png": b"\x89",
    }

    package = read_package(zipped(files))

    assert package.files == {"plugin.py": PLUGIN.encode(), "pages/a.py": b"A = 1", "logo.png": b"\x89"}
    assert package.folder == folder.rstrip("/")


def test_what_macos_and_python_leave_behind_is_not_part_of_a_package() -> None:
    litter = {"__MACOSX/w/._plugin.py": b"", "w/__pycache__/plugin.cpython-311.pyc": b"", "w/.DS_Store": b""}

    assert list(read_package(zipped({"w/plugin.py": PLUGIN, **litter})).files) == ["plugin.py"]


def test_five_mebibytes_are_the_limit_before_anything_is_parsed() -> None:
    with pytest.raises(BodyTooLarge):
        read_package(b"PK\x03\x04" + bytes(MAX_PACKAGE_BYTES))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"#!/bin/sh\n" + zipped({"plugin.py": PLUGIN})])
def test_what_is_no_zip_is_said_to_be_none(data: bytes) -> None:
    assert refused(data) == ["this is not a zip file"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "the zip is empty"),
        ({"main.py": ""}, "there is no plugin.py"),
        ({"a/b/plugin.py": ""}, "at the root or in one top folder"),
        ({"plugin.py": "", "old/plugin.py": ""}, "exactly one plugin.py"),
        ({"a/plugin.py": "", "b/x.py": ""}, "everything must be in the folder a"),
    ],
)
def test_there_is_exactly_one_plugin(files: dict[str, str | bytes], reason: str) -> None:
    (message,) = refused(zipped(files))
    assert reason in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.py", "leaves the package"),
        ("a/../../evil.py", "leaves the package"),
        ("./x.py", "leaves the package"),
        ("a//x.py", "leaves the package"),
        ("/etc/passwd", "absolute"),
        ("C:/x.py", "absolute"),
        ("a\\..\\x.py", "backslashes"),
        ("a\nb.py", "control characters"),
        ("x" * 201, "1 to 200 characters"),
        ("hook.pth", "Python source and data"),
        ("sitecustomize.py", "Python source and data"),
        ("native.so", "Python source and data"),
    ],
)
def test_names_that_could_do_harm_are_refused(name: str, reason: str) -> None:
    assert any(reason in message for message in refused(with_entry(name)))


def test_a_name_cut_short_by_a_nul_is_refused() -> None:
    data = with_entry("evil.py__x").replace(b"evil.py__x", b"evil.py\x00.x")
    assert any("control characters" in message for message in refused(data))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int) -> None:
    assert any("no links and no devices" in message for message in refused(with_entry("x", mode=kind | 0o644)))


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.py", "A.py"), ("caf\u00e9.py", "cafe\u0301.py"), ("a", "a/b.py"), ("Stra\u00dfe.py", "STRASSE.py")],
)
def test_names_that_some_system_takes_for_one_are_refused(one: str, other: str) -> None:
    assert refused(zipped({"plugin.py": PLUGIN, one: "", other: ""}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zip_file:
        for content in ("a", "b"):
            zip_file.writestr("plugin.py", content)
    assert refused(buffer.getvalue())


def test_all_reasons_are_told_at_once() -> None:
    reasons = refused(zipped({"plugin.py": PLUGIN, "../a": "", "/b": "", "c.pth": ""}))
    assert len(reasons) == 3


def test_too_many_entries_are_refused() -> None:
    files: dict[str, str | bytes] = {f"{i}.txt": "" for i in range(MAX_ENTRIES)}
    assert "501 entries" in refused(zipped({"plugin.py": PLUGIN, **files}))[0]


def test_a_bomb_is_refused_without_unpacking_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1024 * 1024)
    data = zipped({"plugin.py": PLUGIN, "zeros.bin": bytes(4 * 1024 * 1024)})
    assert len(data) < 10_000
    assert "unpacks to more than 1 MiB" in refused(data)[0]


def test_the_size_an_archive_states_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A central directory that says one byte does not get past the counting: it is cut, and the checksum fails."""
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1024 * 1024)
    size = 4 * 1024 * 1024
    data = zipped({"plugin.py": PLUGIN, "zeros.bin": bytes(size)})
    assert "damaged" in refused(data.replace(struct.pack("<L", size), struct.pack("<L", 1)))[0]


def _flip(data: bytes, marker: bytes, offset: int, value: bytes) -> bytes:
    start = data.index(marker) + offset
    return data[:start] + value + data[start + len(value) :]


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: data[:-22], "damaged"),
        (lambda data: _flip(data, b"PK\x01\x02", 16, b"\xde\xad\xbe\xef"), "damaged"),
        (lambda data: _flip(data, b"PK\x01\x02", 8, b"\x01\x00"), "encrypted"),
        (lambda data: _flip(data, b"PK\x01\x02", 10, b"\x0c\x00"), "only stored and deflated"),
        (lambda data: _flip(data, b"PK\x03\x04", 30, b"PLUGIN"), "damaged"),
    ],
    ids=["half", "no directory", "wrong CRC", "encrypted", "bzip2", "two names"],
)
def test_damaged_archives_are_refused(break_it: Callable[[bytes], bytes], reason: str) -> None:
    assert any(reason in message for message in refused(break_it(zipped({"plugin.py": PLUGIN}))))
