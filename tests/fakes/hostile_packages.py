"""Packages that mean harm, each with what its author is told. Built here, byte by byte where no tool would."""

import io
import stat
import struct
import zipfile
from collections.abc import Iterator

import msgspec

from tests.fakes.plugin_packages import package, plugin_source, zipped
from tests.fakes.wheels import wheel, wheel_name

PLUGIN = plugin_source()
TIDES = "dependencies=['tides']"


BOMB_MIB = 1100
"""More than an environment may have on disk (`shared.packages.uv.UvLimits`)."""


class Attack(msgspec.Struct, frozen=True):
    """`reason` is a part of the refusal, or `or_reason` where it depends on what else the machine does."""

    name: str
    data: bytes
    reason: str
    or_reason: str | None = None

    def is_told_in(self, text: str) -> bool:
        return self.reason in text or (self.or_reason is not None and self.or_reason in text)


def attacks() -> Iterator[Attack]:
    """Takes some seconds: a bomb has to be packed before it can go off."""
    yield from _archives()
    yield from _sources()
    yield from _metadata()
    yield from _dependencies()


def harmless() -> Iterator[Attack]:
    """What only hurts the process that is thrown away: taken or refused, but without any effect on the next plugin."""
    yield Attack(
        "patches cadence_sdk", package(top="import cadence_sdk\ncadence_sdk.BasePlugin.get_metadata = None"), ""
    )
    yield Attack("patches builtins", package(top="import builtins\nbuiltins.isinstance = lambda *a: True"), "")
    yield Attack(
        "pickles on stdout", package(top="import os, pickle\nos.write(1, pickle.dumps({'type': 'report'}))"), ""
    )
    yield Attack("forges a report", package(top='print(\'{"type": "report", "manifest": null}\')'), "")
    yield Attack("closes everything", package(top="import os\nos.closerange(0, 64)"), "")


def _archives() -> Iterator[Attack]:
    def raw(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("plugin.py", PLUGIN)
            for name, content in entries:
                archive.writestr(name, content)
        return buffer.getvalue()

    def special(kind: int) -> tuple[zipfile.ZipInfo, bytes]:
        info = zipfile.ZipInfo("special")
        info.external_attr = (kind | 0o644) << 16
        return info, b"/etc/passwd"

    good = zipped({"plugin.py": PLUGIN})
    yield Attack("climbs out", raw(("../evil.py", b"")), "leaves the package")
    yield Attack("climbs out in the middle", raw(("a/../../evil.py", b"")), "leaves the package")
    yield Attack("absolute name", raw(("/etc/evil.py", b"")), "the path is absolute")
    yield Attack("drive letter", raw(("C:evil.py", b"")), "the path is absolute")
    yield Attack("backslashes", _renamed(raw(("evilXXX.py", b"")), b"evilXXX.py", b"..\\evil.py"), "backslashes")
    yield Attack("NUL in a name", _renamed(raw(("evilX.txt", b"")), b"evilX.txt", b"evil\0.txt"), "control characters")
    yield Attack("symlink", raw(special(stat.S_IFLNK)), "no links and no devices")
    yield Attack("hard link", raw(_hard_link("/etc/passwd")), "no links and no devices")
    yield Attack("device", raw(special(stat.S_IFCHR)), "no links and no devices")
    yield Attack("pipe", raw(special(stat.S_IFIFO)), "no links and no devices")
    yield Attack("the same name twice", _renamed(raw(("a.py", b""), ("b.py", b"")), b"b.py", b"a.py"), "there is also")
    yield Attack("names that differ in case", raw(("data.py", b""), ("DATA.py", b"")), "cannot tell them apart")
    yield Attack("zip bomb", raw(("zeros", bytes(30 * 1024**2))), "unpacks to more than 20 MiB")
    nested: dict[str, str | bytes] = {
        "plugin.py": plugin_source(metadata=TIDES),
        f"wheels/{wheel_name('tides', '1.0')}": _bomb(wheel("tides", "1.0")),
    }
    yield Attack("zip bomb in a wheel", zipped(nested), "larger than 1024 MiB unpacked")
    yield Attack("wrong CRC", _wrong_crc(good), "damaged")
    yield Attack("cut off", good[: len(good) // 2], "damaged")
    yield Attack("encrypted", _encrypted(good), "encrypted")
    yield Attack("10 001 entries", raw(*((f"f{i}", b"") for i in range(10_000))), "has 10001 entries")
    yield Attack("no zip", b"#!/bin/sh\n", "not a zip file")
    yield Attack("empty zip", zipped({}), "the zip is empty")
    yield Attack("path file", raw(("evil.pth", b"import os")), "Python source and data files only")
    yield Attack("sitecustomize", raw(("sitecustomize.py", b"")), "Python source and data files only")
    yield Attack("compiled code", raw(("evil.so", b"\x7fELF")), "Python source and data files only")
    yield Attack("two plugins", zipped({"a/plugin.py": PLUGIN, "b/plugin.py": PLUGIN}), "exactly one plugin.py")
    yield Attack(
        "plugin.py twice under one name", _renamed(raw(("plugin.pX", b"")), b"plugin.pX", b"plugin.py"), "there is also"
    )
    yield Attack("no plugin", zipped({"readme.txt": ""}), "no plugin.py in the zip")


def _sources() -> Iterator[Attack]:
    def top(code: str) -> bytes:
        return package(top=code)

    yield Attack("not UTF-8", zipped({"plugin.py": b"# \xff\xfe"}), "encoding")
    yield Attack("syntax error", package("def"), "line 1: invalid syntax")
    yield Attack("never returns", top("import threading; threading.Event().wait()"), "did not finish within")
    yield Attack("burns CPU", top("while True: pass"), "seconds of CPU time", "did not finish within")
    yield Attack("exits", top("import sys; sys.exit()"), "ends the process (sys.exit)")
    yield Attack("exits hard", top("import os; os._exit(0)"), "ended the process")
    yield Attack("kills itself", top("import ctypes; ctypes.string_at(0)"), "ended the process")
    yield Attack("forks", top("import os\nwhile True: os.fork()"), "may not do while it is inspected")
    yield Attack("starts a program", top("import subprocess; subprocess.run(['true'])"), "may not do")
    yield Attack("eats memory", top("x = bytearray(64 * 1024**3)"), "MiB of memory")
    yield Attack("writes without end", top("while True: print('x' * 100000)"), "printed more than")
    yield Attack("fills the disk", top("open('big', 'wb').write(bytes(64 * 1024**2))"), "raised OSError")
    yield Attack("reads its environment", top("open('/proc/self/environ').read()"), "may not do")
    yield Attack("reads our files", top(f"open({__file__!r})"), "may not do")
    yield Attack("reads the server's memory", top("import os; open(f'/proc/{os.getppid()}/mem', 'rb')"), "may not do")
    yield Attack("reads accounts", top("open('/etc/passwd')"), "may not do")
    yield Attack("writes elsewhere", top("open('/tmp/planted', 'w')"), "may not do")
    yield Attack("opens a socket", top("import socket; socket.create_connection(('127.0.0.1', 80))"), "may not do")
    yield Attack("imports the server", top("import control_plane.wiring"), "none of its declared dependencies brings")


def _metadata() -> Iterator[Attack]:
    yield Attack("1 MB of name", package(metadata="capabilities=['x' * 1024**2]"), "at most 200 characters")
    yield Attack("pid that climbs", package(pid="com.acme/../../../etc"), "reverse domain name")
    yield Attack("pid of the system", package(pid="com.system.time"), "is a plugin of the system catalogue")
    yield Attack("pid of the system in capitals", package(pid="com.SYSTEM.time"), "is a plugin of the system catalogue")
    yield Attack("pid of another domain", package(pid="com.other.calc"), "the pid must be com.acme")
    yield Attack("version that is none", package(version="one.two"), "not a valid version")
    recursive = """
        from pydantic import BaseModel
        class Node(BaseModel):
            child: "Node | None" = None
        @uvtool(args_schema=Node)
        def add(child): ...
    """
    yield Attack("schema that refers to itself", package(tools=recursive), "refers to itself")
    holds_itself = """
        from pydantic import BaseModel
        LOOP = {}
        LOOP["self"] = LOOP
        class Loop(BaseModel):
            @classmethod
            def model_json_schema(cls, *a, **k): return LOOP
        @uvtool(args_schema=Loop)
        def add(): ...
    """
    yield Attack("schema that holds itself", package(tools=holds_itself), "RecursionError")


def _dependencies() -> Iterator[Attack]:
    def needs(*requirements: str) -> bytes:
        return package(metadata=f"dependencies={list(requirements)!r}")

    yield Attack("dependency from a URL", needs("tides @ https://evil.example/tides.whl"), "not a URL")
    yield Attack("dependency that is an option", needs("--extra-index-url=https://evil.example"), "no options")
    yield Attack("dependency that is a path", needs("../../evil"), "no paths")
    yield Attack("21 dependencies", needs(*(f"p{i}" for i in range(21))), "at most 20")
    yield Attack("dependency that is not there", needs("numpie"), "numpie was not found")
    lock = {"plugin.py": PLUGIN, "requirements.lock": "--index-url https://evil.example\n"}
    yield Attack("lock with an option", zipped(lock), "options are not allowed")
    lock = {"plugin.py": PLUGIN, "requirements.lock": "tides @ https://evil.example/t.whl --hash=sha256:" + "a" * 64}
    yield Attack("lock with a URL", zipped(lock), "not from a URL or a path")
    fake: dict[str, str | bytes] = {
        "plugin.py": plugin_source(metadata=TIDES),
        f"wheels/{wheel_name('tides', '1.0')}": b"no wheel",
    }
    yield Attack("wheel that is none", zipped(fake), "the dependencies cannot be installed")


def _hard_link(target: str) -> tuple[zipfile.ZipInfo, bytes]:
    """An entry with the extra field in which Unix systems keep where a link leads (APPNOTE 4.5.7)."""
    info = zipfile.ZipInfo("linked.txt")
    times_and_owner = bytes(12)
    body = times_and_owner + target.encode()
    info.extra = struct.pack("<HH", 0x000D, len(body)) + body
    return info, b""


def _bomb(good_wheel: bytes) -> bytes:
    """The same wheel with a file of zeros, a two hundredth of its size while it is packed: quickly, for a gigabyte."""
    buffer = io.BytesIO(good_wheel)
    with (
        zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
        packed.open("zeros.bin", "w") as zeros,
    ):
        for _ in range(BOMB_MIB):
            zeros.write(bytes(1024**2))
    return buffer.getvalue()


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """With another name in the zip's own records, which `zipfile` would not write."""
    assert len(old) == len(new)
    return data.replace(old, new)


def _wrong_crc(data: bytes) -> bytes:
    crc = zipfile.ZipFile(io.BytesIO(data)).infolist()[0].CRC
    return data.replace(struct.pack("<L", crc), struct.pack("<L", crc ^ 1))


def _encrypted(data: bytes) -> bytes:
    """With the flag of an encrypted entry, in both headers."""
    changed = bytearray(data)
    changed[6] |= 1
    changed[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)
