"""Inspecting a package in a process of its own: this one never imports plugin code."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from shared.errors import FieldError, RateLimited
from shared.logging import get_logger
from shared.packages.archive import PackageFiles
from shared.packages.environments import Environments
from shared.packages.inspection.child import Task
from shared.packages.inspection.report import Line, Report, Stage
from shared.packages.platform_packages import platform_packages
from shared.security.confinement import Limits

log = get_logger(__name__)

MAX_REPORT_BYTES = 2 * 1024 * 1024
MAX_OUTPUT_BYTES = 64 * 1024
MAX_WRITTEN_BYTES = 64 * 1024**2
MAX_WRITTEN_FILES = 1000
WALL_SECONDS = 20.0
CONCURRENT_INSPECTIONS = 2
MAX_WAITING = 32
MAX_WAITING_OF_ONE = 4
"""Uploads that wait hold their package in memory, and a slow one must not keep all others waiting."""

_CHUNK_BYTES = 64 * 1024
_KILLED_SECONDS = 5.0
_WATCH_SECONDS = 0.1
# No site-packages: whatever a plugin may import is in the directories that its task names. And no garbage collection
# until the plugin's turn: imports make none.
_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path += sys.argv[2:]; from shared.packages.inspection.child import main; main()"
)
_ROOT = Path(__file__).parents[3]
_lines: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Inspector:
    """Runs a bounded number of inspections at a time; the others wait.

    With `needs_walls` a package is refused unrun where the kernel cannot keep it from files and network.
    """

    def __init__(
        self,
        environments: Environments,
        *,
        limits: Limits | None = None,
        wall_seconds: float = WALL_SECONDS,
        concurrent: int = CONCURRENT_INSPECTIONS,
        needs_walls: bool = False,
    ) -> None:
        self._environments = environments
        self._needs_walls = needs_walls
        self._limits = limits or Limits()
        self._wall_seconds = wall_seconds
        self._slots = asyncio.Semaphore(concurrent)
        self._admitted: Counter[Hashable] = Counter()

    @contextmanager
    def admission(self, owner: Hashable) -> Iterator[None]:
        """A place among those who wait or are inspected. Raises RateLimited when there is none."""
        if self._admitted[owner] >= MAX_WAITING_OF_ONE or self._admitted.total() >= MAX_WAITING:
            raise RateLimited("too many packages are being inspected; upload again later", retry_after_seconds=5)
        self._admitted[owner] += 1
        try:
            yield
        finally:
            self._admitted[owner] -= 1
            if not self._admitted[owner]:
                del self._admitted[owner]

    async def inspect(self, package: PackageFiles, digest: str, *, environment: Path | None = None) -> Report:
        """What the package says about itself, or the findings for which it is refused. Never raises for what it does.

        Without the environment of its dependencies the report of a plugin that has any is not complete. Cancelling ends
        the process.
        """
        async with self._slots, self._environments.workplaces.temporary("inspect-") as home:
            return await self._inspect(package, digest, home, environment)

    async def _inspect(self, package: PackageFiles, digest: str, home: Path, environment: Path | None) -> Report:
        code, workspace = home / "package", home / "work"
        await asyncio.to_thread(_unpack, package, code, workspace)
        base = await self._environments.base()
        task = Task(
            code,
            package.folder,
            digest,
            workspace,
            self._limits,
            base=base,
            provided=tuple(platform_packages()),
            environment=environment,
            needs_walls=self._needs_walls,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            "-B",
            "-X",
            "utf8",
            "-c",
            _PROGRAM,
            msgspec.json.encode(task, enc_hook=str).decode(),
            str(base),
            str(_ROOT),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(workspace), "TMPDIR": str(workspace)},
            cwd=workspace,
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101 - asked for above
        assert process.stderr is not None  # noqa: S101
        told, printed = _Capped(MAX_REPORT_BYTES), _Capped(MAX_OUTPUT_BYTES)
        # Both pipes are read to their end, what is too much included: a full pipe nobody reads would hold up its end.
        readers = asyncio.gather(told.read(process.stdout, process.pid), printed.read(process.stderr, process.pid))
        watcher = asyncio.create_task(_watch(workspace, process.pid))
        trouble = ""
        try:
            await asyncio.wait_for(asyncio.shield(readers), self._wall_seconds)
        except TimeoutError:
            trouble = f"did not finish within {self._wall_seconds:g} seconds"
        finally:
            _kill_group(process.pid)
            await asyncio.shield(_ended(readers, process))
            watcher.cancel()
        if watcher.done() and not watcher.cancelled():
            trouble = f"wrote more than {MAX_WRITTEN_BYTES // 1024**2} MiB or {MAX_WRITTEN_FILES} files"
        if told.is_over or printed.is_over:
            trouble = f"printed more than {MAX_OUTPUT_BYTES // 1024} KiB"
        stage, report = _parse(bytes(told.content))
        if report is not None and not trouble:
            return report
        trouble = trouble or self._how_it_ended(process.returncode or 0, bytes(printed.content))
        log.info("plugin_inspection_cut_short", stage=stage, trouble=trouble)
        return Report(findings=(FieldError("file", "inspection", f"{stage} {trouble}"),))

    def _how_it_ended(self, code: int, printed: bytes) -> str:
        if code == -signal.SIGXCPU:
            return f"used more than {self._limits.cpu_seconds} seconds of CPU time"
        last = printed.decode(errors="replace").strip().splitlines()[-1:]
        said = f"; it last printed {last[0][:200]!r}" if last else ""
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return f"ended the process ({how}), which a plugin must not do{said}"


async def _watch(workspace: Path, pid: int) -> None:
    """Return once the process has been ended for what it wrote; the kernel limits single files only."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if await asyncio.to_thread(_is_too_much, workspace):
            _kill_group(pid)
            return


def _is_too_much(workspace: Path) -> bool:
    size, count, directories = 0, 0, [str(workspace)]
    while directories:
        # Files come and go meanwhile.
        with suppress(OSError), os.scandir(directories.pop()) as entries:
            for entry in entries:
                count += 1
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if size > MAX_WRITTEN_BYTES or count > MAX_WRITTEN_FILES:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
    return False


def _unpack(package: PackageFiles, code: Path, workspace: Path) -> None:
    code.mkdir()
    workspace.mkdir()
    package.write_to(code)


class _Capped:
    """The first `limit` bytes of a pipe. More than that ends the process that writes it."""

    def __init__(self, limit: int) -> None:
        self.content = bytearray()
        self.is_over = False
        self._limit = limit

    async def read(self, stream: asyncio.StreamReader, pid: int) -> None:
        while chunk := await stream.read(_CHUNK_BYTES):
            if self.is_over:
                continue
            self.content += chunk[: self._limit - len(self.content) + 1]
            if len(self.content) > self._limit:
                self.is_over = True
                _kill_group(pid)


async def _ended(readers: "asyncio.Future[tuple[None, None]]", process: asyncio.subprocess.Process) -> None:
    """Wait for a process that was killed. Where children could outlive it, one may hold its pipes: then it is left."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_KILLED_SECONDS):
            await readers
            await process.wait()


def _kill_group(pid: int) -> None:
    # Nothing is left of it in the usual case; a process that could fork has left its children in the group.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _parse(told: bytes) -> tuple[str, Report | None]:
    """The last stage that was reached and the report, if it came to one. The plugin may have written anything."""
    stage, report = "starting the inspection", None
    for line in told.splitlines():
        try:
            match _lines.decode(line):
                case Stage(doing, missing):
                    stage = doing[:100]
                    if shown := missing[:10]:
                        log.warning("plugin_inspection_not_fully_confined", missing=shown)
                case Report() as found:
                    report = found
        except (msgspec.MsgspecError, RecursionError):
            return stage, None
    return stage, report
