"""The stack under fire: `cadence up` with its stores and its broker behind wires that can be cut."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from deploy.local.mongo import Mongo
from deploy.local.nats import Nats
from deploy.local.server import Server
from deploy.local.valkey import Valkey
from deploy.stack.data_dir import DataDirectory
from tests.e2e.running import RunningStack, cadence
from tests.fakes.tcp_proxy import TcpProxy, tcp_proxy

WIRES: dict[str, tuple[str, type[Server]]] = {
    "Redis": ("CADENCE_REDIS_URL", Valkey),
    "MongoDB": ("CADENCE_MONGO_URL", Mongo),
    "broker": ("CADENCE_BROKER_URL", Nats),
}


class ChaosStack:
    """`wires` are by the names above, `urls` lead to the servers themselves, past the wires."""

    def __init__(self, running: RunningStack, wires: dict[str, TcpProxy], urls: dict[str, str]) -> None:
        self.running = running
        self.wires = wires
        self.urls = urls
        self.workers = sorted(slug for slug in self.addresses() if slug.startswith("worker-"))

    def addresses(self) -> dict[str, str]:
        """URLs of the processes by their slug."""
        state = DataDirectory(self.running.data_dir).state()
        assert state is not None
        return {process.slug: process.url for process in state.processes}

    def pid(self, slug: str) -> int | None:
        """None while it is not there."""
        try:
            pid = int((self.running.data_dir / "run" / f"{slug}.pid").read_text().split()[0])
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError):
            return None
        return pid

    def log_path(self, slug: str) -> Path:
        return self.running.data_dir / "logs" / f"{slug}.log"

    def send(self, slug: str, number: signal.Signals) -> bool:
        """To a process and everything it started; False when it is not there."""
        pid = self.pid(slug)
        with suppress(ProcessLookupError):
            if pid is not None:
                os.killpg(pid, number)
                return True
        return False


class ExtraRelay:
    """A relay of its own beside the one in the control plane: whichever leads, the other stands by."""

    def __init__(self, running: RunningStack) -> None:
        self._running = running
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with (self._running.data_dir / "logs" / "relay.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*cadence("relay"), "--data-dir", str(self._running.data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        assert self._process is not None
        self.send(signal.SIGKILL)
        self._process.wait()


@asynccontextmanager
async def chaos_stack(home: Path, *, workers: int) -> AsyncIterator[tuple[ChaosStack, ExtraRelay]]:
    async with AsyncExitStack() as stack:
        servers = {name: server(home / "servers", is_durable=False) for name, (_, server) in WIRES.items()}
        for server in servers.values():
            stack.callback(server.stop)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers.values()))
        wires, environment = {}, {"CADENCE_LOG_FORMAT": "json", "CADENCE_LOG_LEVEL": "INFO"}
        for name, (variable, _) in WIRES.items():
            wires[name], environment[variable] = await stack.enter_async_context(tcp_proxy(servers[name].url))
        running = RunningStack(home / "stack", "--workers", str(workers), environment=environment)
        stack.push_async_callback(asyncio.to_thread, running.stop)
        await asyncio.to_thread(running.wait_until_ready)
        relay = ExtraRelay(running)
        stack.callback(relay.kill)
        yield ChaosStack(running, wires, {name: server.url for name, server in servers.items()}), relay
