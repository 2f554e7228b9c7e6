"""Whether a plugin has a network, and how it is taken from it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_worker.plugins.egress import network_for
from tests.integration.plugin_hosts.conftest import LoadHosted, MakeHosts
from tests.integration.plugin_hosts.test_host_lives import OPTIONS, WORKER, adds, is_gone, until

REACHES = """
import asyncio, socket

@uvtool
async def reaches(port: int) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    return "reached"

@uvtool
def opens_a_file_socket(path: str) -> str:
    socket.socket(socket.AF_UNIX).connect(path)
    return "reached"
"""


@pytest.mark.parametrize(("network", "is_reached"), [("own", True), ("namespace", False)])
async def test_a_plugin_has_the_network_only_where_it_is_allowed_to(
    load: LoadHosted, make_hosts: MakeHosts, tmp_path: Path, network: str, is_reached: bool
) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    bundle = await load(hosts=make_hosts(network=network), tools=REACHES, tool_names="reaches, opens_a_file_socket")
    path = str(tmp_path / "s")
    async with (
        await asyncio.start_server(nothing, "127.0.0.1", 0) as server,
        await asyncio.start_unix_server(nothing, path),
    ):
        port = server.sockets[0].getsockname()[1]
        outcome = await bundle.call("reaches", {"port": port}, timeout_seconds=10)
        file_outcome = await bundle.call("opens_a_file_socket", {"path": path}, timeout_seconds=10)

    assert (outcome.content == "reached") is is_reached
    assert file_outcome.is_error


WITHOUT_NAMESPACES = """
import ctypes, os, sys

user, group = os.getuid(), os.getgid()
# In a user namespace of its own a process may forbid more of them. Where even the first is forbidden, so be it.
if ctypes.CDLL(None).unshare(0x10000000) == 0:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
os.execv(sys.executable, [sys.executable, "-m", "runtime_worker"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_a_worker_that_cannot_take_the_network_from_plugins_does_not_start(tmp_path: Path) -> None:
    variables = {**WORKER, "STORAGE_ROOT": str(tmp_path), "PLUGIN_EGRESS": "deny"}
    environment = {"PATH": str(tmp_path), **{f"CADENCE_{name}": value for name, value in variables.items()}}

    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_NAMESPACES],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("CADENCE_PLUGIN_EGRESS: deny is not possible here")
    assert ended.stderr.count("\n") == 1
    assert network_for("allow") == "own"


async def test_bubblewrap_is_used_where_namespaces_are_not_allowed(
    load: LoadHosted, make_hosts: MakeHosts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The real one is on few machines; what is checked is how it is called and that a host lives behind it.
    called = tmp_path / "called"
    wrapper = tmp_path / "bwrap"
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {called}\nwhile [ "$1" != -- ]; do shift; done\nshift\n"$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("runtime_worker.plugins.egress._PROBE", "raise SystemExit(1)")

    network = network_for("deny")
    bundle = await load(hosts=make_hosts(network=network), **OPTIONS)

    assert network == "bubblewrap"
    assert await adds(bundle)
    assert "--unshare-net" in called.read_text().splitlines()[-1]
    assert bundle.process_id is not None
    host = bundle.process_id
    await bundle.close()
    await until(lambda: is_gone(host))
