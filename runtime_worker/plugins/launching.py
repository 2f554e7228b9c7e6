"""Starting the process of a plugin host: its command, its directory, its two pipes to the worker."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from runtime_worker.plugins.egress import Network, bubblewrap_prefix
from shared.errors import PluginLoadFailed
from shared.packages.kept import remove_tree
from shared.packages.workplaces import Workplaces
from shared.plugin_host import child
from shared.settings import PluginHostSettings

MIB = 1024**2
ADDRESS_SPACE_FACTOR, ADDRESS_SPACE_EXTRA_MB = 2, 1024
"""What is reserved is always more than what is used: libraries, thread stacks, heaps. The resident part is measured."""


class Surroundings(msgspec.Struct, frozen=True):
    """What a host may read: the plugin's unpacked package, its dependencies, and the base of all plugins.

    `folder` is what the package's directory was called in its zip, "" for the root.
    """

    package: Path
    folder: str
    environment: Path
    base: Path


class HostFiles(msgspec.Struct, frozen=True):
    """A started process with the worker's ends of its connections: for messages, and for what it prints.

    Both are sockets, since uvloop closes the descriptor of a pipe twice, and the second time it may be somebody else's.
    `home` is the process's own directory.
    """

    process: "subprocess.Popen[bytes]"
    home: Path
    channel: socket.socket
    output: socket.socket


class HostLauncher:
    """Starts and ends host processes.

    They are started from one thread that lives as long as this object: the kernel ends a host with the thread it was
    started from, which is how none outlives its worker.
    """

    def __init__(self, settings: PluginHostSettings, network: Network, workplaces: Workplaces) -> None:
        self.settings = settings
        self.network = network
        self._workplaces = workplaces
        self._thread = ThreadPoolExecutor(1, "plugin-hosts")

    async def launch(self, surroundings: Surroundings) -> HostFiles:
        """Raises PluginLoadFailed when the system has no process, descriptor or directory to give."""
        loop = asyncio.get_running_loop()
        launching = loop.run_in_executor(self._thread, self._launch, surroundings)
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            # The thread goes on, and what it starts must not be forgotten.
            launching.add_done_callback(_discard)
            raise
        except OSError as error:
            raise PluginLoadFailed(f"a plugin host could not be started ({type(error).__name__})") from error

    def close(self) -> None:
        """Let go of the thread and of all directories. Hosts that are still alive end with it."""
        self._thread.shutdown(wait=False)
        self._workplaces.close()

    def _launch(self, surroundings: Surroundings) -> HostFiles:
        home = self._workplaces.make("host-")
        with contextlib.ExitStack() as undo:
            undo.callback(remove_tree, home)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.callback(ours.close)
            output, printed = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.callback(output.close)
            try:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
                    self._command(surroundings, theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=printed.fileno(),
                    stderr=printed.fileno(),
                    pass_fds=(theirs.fileno(),),
                    # Nothing of the worker's; these two are where a program looks for a place to write.
                    env={"HOME": str(home), "TMPDIR": str(home)},
                    cwd=home,
                    start_new_session=True,
                )
            finally:
                theirs.close()
                printed.close()
            undo.pop_all()
        return HostFiles(process, home, ours, output)

    def _command(self, surroundings: Surroundings, channel: int) -> list[str]:
        limits = self.settings
        launch = {
            "channel": channel,
            "package": str(surroundings.package),
            "environment": str(surroundings.environment),
            "base": str(surroundings.base),
            "network": self.network == "own",
            "address_space_bytes": (limits.memory_mb * ADDRESS_SPACE_FACTOR + ADDRESS_SPACE_EXTRA_MB) * MIB,
            "file_bytes": limits.file_mb * MIB,
            "open_files": limits.open_files,
            # Bubblewrap stands between the two and ends them together itself.
            "parent": None if self.network == "bubblewrap" else os.getpid(),
        }
        prefix = bubblewrap_prefix() if self.network == "bubblewrap" else []
        text = msgspec.json.encode(launch).decode()
        return [*prefix, sys.executable, "-I", "-S", "-B", "-X", "utf8", str(Path(child.__file__).resolve()), text]


def end_process(process: "subprocess.Popen[bytes]", home: Path) -> int:
    """Kill it with all it may have started, wait, and remove its directory; its exit code. Blocks for a moment."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    remove_tree(home)
    return code


def _discard(launching: "asyncio.Future[HostFiles]") -> None:
    if launching.cancelled() or launching.exception() is not None:
        return
    files = launching.result()
    files.channel.close()
    files.output.close()
    end_process(files.process, files.home)
