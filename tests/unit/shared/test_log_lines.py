"""Lines of the log are written together, in order, and none is left behind by a process that ends by itself."""

import asyncio
import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from shared import log_lines
from shared.log_lines import LogLines

LOGGING = """
    import asyncio, logging, multiprocessing, os, signal, sys
    from shared.logging import configure_logging, get_logger

    configure_logging()
    log = get_logger("told")
"""


class Written:
    """Standard error, each write by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[str] = []
        monkeypatch.setattr(sys, "stderr", self)

    def write(self, text: str) -> None:
        self.writes.append(text)

    def flush(self) -> None: ...


async def test_what_is_logged_within_a_moment_is_one_write_in_that_order(monkeypatch: pytest.MonkeyPatch) -> None:
    written, lines = Written(monkeypatch), LogLines()
    for name in ("one", "two"):
        lines.add(name)
    assert not written.writes

    await asyncio.sleep(log_lines.HOLD_SECONDS * 2)
    assert written.writes == ["one\ntwo\n"]


async def test_a_warning_waits_for_nobody_and_passes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    written, lines = Written(monkeypatch), LogLines()
    lines.add("one")
    lines.add("two", at_once=True)
    assert written.writes == ["one\ntwo\n"]


async def test_no_more_than_so_many_lines_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    written, lines = Written(monkeypatch), LogLines()
    for number in range(log_lines.MOST):
        lines.add(str(number))
    assert len(written.writes) == 1


async def test_a_thread_without_a_loop_writes_what_waits_before_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    written, lines = Written(monkeypatch), LogLines()
    lines.add("one")
    thread = threading.Thread(target=lines.add, args=("two",))
    thread.start()
    thread.join()
    assert written.writes == ["one\ntwo\n"]


def test_lines_of_a_loop_that_has_stopped_are_written_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    written, lines = Written(monkeypatch), LogLines()

    async def say(line: str, seconds: float) -> None:
        lines.add(line)
        await asyncio.sleep(seconds)

    asyncio.run(say("one", 0))
    assert not written.writes
    asyncio.run(say("two", log_lines.HOLD_SECONDS * 2))
    assert written.writes == ["one\ntwo\n"]


@pytest.mark.parametrize(
    "ending",
    [
        "asyncio.run(told())",
        "asyncio.run(told(then=exits))",
        "asyncio.run(told(then=fails))",
        "asyncio.run(told(then=is_stopped))",
        "child = multiprocessing.get_context('fork').Process(target=asyncio.run, args=[told()])\nchild.start()",
    ],
    ids=["ends", "exits", "fails", "is stopped", "is a child of multiprocessing"],
)
def test_a_process_that_ends_by_itself_leaves_no_line_behind(ending: str) -> None:
    program = """
        async def told(then=lambda: None):
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            log.info("one")
            logging.getLogger("library").info("two")
            log.info("three")
            if then is is_stopped:
                os.kill(os.getpid(), signal.SIGTERM)
                await stop.wait()
            else:
                then()

        def exits(): sys.exit(3)
        def fails(): raise ValueError
        def is_stopped(): ...
    """
    assert events_of(program, ending) == ["one", "two", "three"]


def test_a_child_that_is_forked_does_not_repeat_what_waits_in_its_parent() -> None:
    program = """
        async def forking():
            log.info("one")
            if child := os.fork():
                os.waitpid(child, 0)
                log.info("three")
            else:
                log.warning("two")
                os._exit(0)
    """
    assert events_of(program, "asyncio.run(forking())") == ["one", "two", "three"]


def events_of(program: str, ending: str) -> list[str]:
    """What a program logs, as it is found in the end."""
    source = textwrap.dedent(LOGGING) + textwrap.dedent(program) + ending
    ended = subprocess.run(
        [sys.executable, "-c", source], stderr=subprocess.PIPE, cwd=Path(__file__).parents[3], check=False
    )
    lines = ended.stderr.decode().splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]
