"""Tools that attack: their call is an error within its deadline, the next one is answered, and nothing is reached."""

import asyncio
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import structlog

from runtime_worker.plugins.hosted import HostedBundle
from runtime_worker.plugins.output import LINES_AT_ONCE, MAX_LINE_CHARS
from shared.plugin_host.results import MAX_RESULT_CHARS
from tests.integration.plugin_hosts.conftest import LoadHosted, MakeHosts

DEADLINE_SECONDS = 5.0
TOP = """
import asyncio, ctypes, gc, os, signal, socket, struct, sys, threading, time

def send(data):
    for s in gc.get_objects():
        if isinstance(s, socket.socket) and s.fileno() > 0:
            try:
                os.write(s.fileno(), data)
            except OSError:
                pass

@uvtool
def add(a: int, b: int) -> int:
    return a + b
"""
ENDS_THE_HOST = {
    "exits": "os._exit(0)",
    "faults": "ctypes.string_at(0)",
    "aborts": "os.abort()",
    "closes every descriptor": "os.closerange(0, 256); threading.Event().wait()",
    "sends garbage": "send(b'\\x00\\x00\\x00\\x04junk'); threading.Event().wait()",
    "announces a huge frame": "send(b'\\xff\\xff\\xff\\xff'); threading.Event().wait()",
    "sends nesting without end": (
        "body = b'[' * 100_000; send(struct.pack('>I', len(body)) + body); threading.Event().wait()"
    ),
    "patches json out from under the host": (
        "sys.modules.clear(); [setattr(sys, n, None) for n in ('stdout', 'stderr')]; os._exit(1)"
    ),
}
IS_REFUSED = {
    "forks": "os.fork()",
    "starts a program": "os.execv('/bin/sh', ['sh'])",
    "starts a child": "__import__('subprocess').run(['/bin/true'], check=True)",
    "spawns": "os.posix_spawn('/bin/true', ['true'], {})",
    "signals itself": "signal.raise_signal(signal.SIGKILL)",
    "kills its worker": "os.kill(os.getppid(), signal.SIGKILL)",
    "reads the worker's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "reads the worker's memory": "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "lists processes": "os.listdir('/proc')",
    "reads its own environment in proc": "open('/proc/self/environ').read()",
    "reads accounts": "open('/etc/passwd').read()",
    "reads the packages of others": "os.listdir(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))",
    "writes its own code": "open(__file__, 'a').write('x')",
    "writes elsewhere": "open('/tmp/cadence-hostile', 'w').write('x')",
    "writes a file too large": "open('big', 'wb').write(b'x' * (65 * 1024 * 1024))",
    "opens a file socket": "socket.socket(socket.AF_UNIX)",
    "opens a datagram pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "traces": "1 / (ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) + 1)",
    "stays when its parent dies": "1 / (ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) + 1)",
    "asks for all memory": "bytearray(1 << 40)",
    "recurses": "(lambda f: f(f))(lambda f: f(f))",
    "opens every file": "[os.dup(1) for _ in range(1000)]",
}
HANGS = {
    "never returns": "threading.Event().wait()",
    "never gives the interpreter back": "exec('while True: pass')",
    "prints a gigabyte": "[sys.stdout.write('x' * 1_000_000 + chr(10)) for _ in range(1000)]",
}


def source(statement: str, prefix: str = "") -> dict[str, Any]:
    tool = f"@uvtool\n{prefix}def attack() -> str:\n    {statement}\n    return 'done'\n"
    return {"top": "", "tools": TOP + tool, "tool_names": "add, attack"}


async def answers(bundle: HostedBundle) -> bool:
    return (await bundle.call("add", {"a": 1, "b": 2}, timeout_seconds=15)).content == "3"


def grouped(statements: dict[str, str]) -> dict[str, Any]:
    """One plugin with a tool for each attack, since starting a host takes longer than an attack."""
    tools = [
        f"@uvtool(name={name!r})\ndef attack_{n}() -> str:\n    {statement}\n    return 'done'\n"
        for n, (name, statement) in enumerate(statements.items())
    ]
    names = ", ".join(["add", *(f"attack_{n}" for n in range(len(statements)))])
    return {"tools": TOP + "\n".join(tools), "tool_names": names}


async def test_what_a_host_may_not_do_is_refused_and_it_goes_on(load: LoadHosted) -> None:
    bundle = await load(**grouped(IS_REFUSED))
    before = bundle.process_id

    outcomes = {name: await bundle.call(name, {}, timeout_seconds=DEADLINE_SECONDS) for name in IS_REFUSED}

    assert [name for name, outcome in outcomes.items() if not outcome.is_error] == []
    assert [name for name, outcome in outcomes.items() if outcome.content != f"The tool {name} failed."] == []
    assert await answers(bundle)
    assert bundle.process_id == before
    assert not Path("/tmp/cadence-hostile").exists()


@pytest.mark.parametrize("attack", ENDS_THE_HOST)
async def test_a_host_that_ends_fails_its_call_at_once_and_the_next_one_is_answered(
    load: LoadHosted, attack: str
) -> None:
    bundle = await load(**source(ENDS_THE_HOST[attack]))
    before = bundle.process_id
    started = time.monotonic()

    outcome = await bundle.call("attack", {}, timeout_seconds=30)

    assert (outcome.content, outcome.is_error) == ("The tool attack failed: its plugin stopped.", True)
    assert time.monotonic() - started < 15
    assert await answers(bundle)
    assert bundle.process_id != before
    assert not Path(f"/proc/{before}").exists() or bundle.circuit.crashes == 1


@pytest.mark.parametrize("attack", HANGS)
@pytest.mark.parametrize("prefix", ["", "async "])
async def test_a_call_that_hangs_ends_at_its_deadline_and_the_next_one_is_answered(
    load: LoadHosted, attack: str, prefix: str
) -> None:
    bundle = await load(**source(HANGS[attack], prefix))

    outcome = await bundle.call("attack", {}, timeout_seconds=0.5)

    assert (outcome.content, outcome.is_error) == ("The tool attack did not answer within 0.5 seconds.", True)
    assert await answers(bundle)


async def test_memory_that_grows_ends_in_an_error(load: LoadHosted, make_hosts: MakeHosts) -> None:
    hosts = make_hosts(memory_mb=128)
    watching = asyncio.create_task(hosts.watch())
    bundle = await load(hosts=hosts, **source("kept = [bytearray(1 << 20) for _ in range(100_000)]"))

    outcome = await bundle.call("attack", {}, timeout_seconds=30)

    assert outcome.is_error
    assert await answers(bundle)
    watching.cancel()


async def test_threads_without_end_end_in_an_error(load: LoadHosted) -> None:
    statement = "[threading.Thread(target=threading.Event().wait, daemon=True).start() for _ in range(100_000)]"
    bundle = await load(**source(statement))

    outcome = await bundle.call("attack", {}, timeout_seconds=30)

    assert outcome.is_error
    # There is no room for one more thread in that host, so it may have to be replaced first.
    assert await _answers_in_the_end(bundle)


async def _answers_in_the_end(bundle: HostedBundle) -> bool:
    async with asyncio.timeout(30):
        while not await answers(bundle):
            if bundle.process_id is not None:
                os.kill(bundle.process_id, 9)
    return True


async def test_output_is_logged_in_bounded_lines_and_the_rest_is_counted(load: LoadHosted) -> None:
    lines = LINES_AT_ONCE + 300
    statement = f"[print('x' * {MAX_LINE_CHARS + 500}, file=sys.stderr) for _ in range({lines})]"
    bundle = await load(**source(statement))

    with structlog.testing.capture_logs() as logs:
        assert (await bundle.call("attack", {}, timeout_seconds=10)).content == "done"
        await bundle.close()

    printed = [entry for entry in logs if entry["event"] == "plugin_output"]
    dropped = sum(entry["lines"] for entry in logs if entry["event"] == "plugin_output_dropped")
    assert LINES_AT_ONCE <= len(printed) < lines
    assert len(printed) + dropped == lines
    assert {len(entry["line"]) for entry in printed} == {MAX_LINE_CHARS}
    assert {entry["pid"] for entry in printed} == {"com.acme.calc"}


async def test_an_answer_that_breaks_the_limits_is_cut_by_the_worker_too(load: LoadHosted) -> None:
    forged = (
        "import json; body = json.dumps({'type': 'answer', 'id': 1, 'outcome': "
        "{'content': 'x' * 100_000, 'shown': ['y' * 100_000]}}).encode();"
        " send(struct.pack('>I', len(body)) + body); threading.Event().wait()"
    )
    bundle = await load(**source(forged))

    outcome = await bundle.call("attack", {}, timeout_seconds=10)

    assert len(outcome.content) < MAX_RESULT_CHARS + 200
    assert len(outcome.shown) < MAX_RESULT_CHARS + 200


async def test_the_worker_stays_as_quick_as_it_was_for_others(load: LoadHosted, make_hosts: MakeHosts) -> None:
    hosts = make_hosts()
    noisy = await load(hosts=hosts, **source(HANGS["prints a gigabyte"]))
    good = await load(hosts=hosts)

    attacks = [asyncio.create_task(noisy.call("attack", {}, timeout_seconds=2)) for _ in range(4)]
    answered = 0
    while not all(task.done() for task in attacks):
        assert (await good.call("add", {"a": 1, "b": 2}, timeout_seconds=2)).content == "3"
        answered += 1

    assert answered > 10
    assert [task.result().is_error for task in attacks] == [True] * 4


def test_this_process_is_what_the_attacks_are_about() -> None:
    """What the refusals above guard is there to be reached: without walls these succeed."""
    assert Path(f"/proc/{os.getpid()}/environ").exists()
    assert Path("/etc/passwd").read_text()
    with socket.socket(socket.AF_UNIX):
        assert threading.active_count() >= 1
