"""Bundles whose code runs in a plugin host: started when loaded, again after a crash, stopped while nobody calls."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.plugins.base import Anchor
from runtime_worker.plugins.circuit import Circuit
from runtime_worker.plugins.cpu_budget import CpuBudget
from runtime_worker.plugins.host_process import HostLost, HostProcess, launched_and_started
from runtime_worker.plugins.launching import MIB, HostLauncher, Surroundings
from runtime_worker.plugins.settings import secret_texts
from runtime_worker.plugins.usage import Usage, usage_of
from shared.errors import PluginLoadFailed, ToolFailed
from shared.logging import get_logger
from shared.plugin_host.messages import (
    BadFrame,
    BuildScopeRules,
    Call,
    LoadAnchor,
    PluginTool,
    Request,
    Start,
    Started,
    ToolOutcome,
)
from shared.plugin_host.results import bounded
from shared.plugin_host.tools import failed, no_such_tool
from shared.snapshots import PluginSnapshot
from shared.workers import PluginCircuit

log = get_logger(__name__)

LOAD_SECONDS = 30.0
CONCURRENT_STARTS = 2


class HostParts(msgspec.Struct, frozen=True):
    """What all hosts of a worker have in common."""

    launcher: HostLauncher
    starts: asyncio.Semaphore
    required_walls: frozenset[str]
    load_seconds: float = LOAD_SECONDS


class _CircuitOpen(Exception):
    pass


class HostedBundle:
    """See `base.PluginBundle`. One host at a time takes calls; one that is being replaced only finishes its own."""

    def __init__(
        self,
        plugin: PluginSnapshot,
        org_id: UUID,
        surroundings: Surroundings,
        parts: HostParts,
        *,
        on_close: "Callable[[HostedBundle], None]",
    ) -> None:
        self._plugin = plugin
        self._secrets = secret_texts(plugin)
        self._org_id = org_id
        self._surroundings = surroundings
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._on_close = on_close
        self._started = Started((), "", is_scoped=False)
        self._is_open = False
        self._host: HostProcess | None = None
        self._starting: asyncio.Task[HostProcess] | None = None
        self._alive: set[HostProcess] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._circuit = Circuit(self._loop.time)
        self._budget = CpuBudget(parts.launcher.settings.cpu_seconds)
        self._used_at = self._measured_at = self._loop.time()
        self._resident_bytes = 0
        self._last_reason = ""
        self._is_closed = False

    @property
    def pid(self) -> str:
        return self._plugin.pid

    @property
    def version(self) -> str:
        return self._plugin.version

    @property
    def description(self) -> str:
        return self._plugin.manifest.description

    @property
    def tools(self) -> tuple[PluginTool, ...]:
        return self._started.tools

    @property
    def system_prompt(self) -> str:
        return self._started.system_prompt

    @property
    def is_scoped(self) -> bool:
        return self._started.is_scoped

    @property
    def process_id(self) -> int | None:
        """Of the host that takes calls, for whoever measures it."""
        return self._host.process_id if self._host else None

    @property
    def resident_bytes(self) -> int:
        """Of the host that takes calls; none while it is idle and stopped."""
        return self._resident_bytes if self._host else 0

    @property
    def circuit(self) -> PluginCircuit:
        return PluginCircuit(
            org_id=self._org_id,
            source=self._plugin.source,
            pid=self.pid,
            version=self.version,
            state=self._circuit.state,
            crashes=self._circuit.crash_count,
            reason=self._last_reason,
            retry_seconds=round(self._circuit.retry_seconds, 1),
        )

    async def open(self) -> None:
        """Start it for the first time. Raises PluginLoadFailed."""
        try:
            host = await self._usable_host()
            usage = usage_of(host.process_id)
            self._resident_bytes = usage.resident_bytes if usage else 0
        except HostLost as error:
            raise PluginLoadFailed(f"{self._name} could not be started: {error}") from None
        except PluginLoadFailed as error:
            raise PluginLoadFailed(f"{self._name} {error.detail}") from None

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        if all(known.name != tool for known in self._started.tools):
            return no_such_tool(tool)
        return await self._asked(
            f"The tool {tool}", lambda number: Call(number, tool, arguments), timeout_seconds, tool=tool
        )

    async def load_anchor(self, resource_id: str, *, with_rules: bool, timeout_seconds: float) -> Anchor:
        outcome = await self._answer(
            "Loading the resource", lambda n: LoadAnchor(n, resource_id, with_rules), timeout_seconds
        )
        rules = bounded(ToolOutcome(outcome.content, None)).content
        if outcome.is_error or not isinstance(outcome.shown, dict):
            raise ToolFailed(rules)
        # Not cut down like what a tool shows: whoever shows it to a model cuts it, and tools may need the rest.
        return Anchor(outcome.shown, rules)

    async def build_scope_rules(self, context: dict[str, Any], *, timeout_seconds: float) -> str:
        outcome = await self._asked("Building scope rules", lambda n: BuildScopeRules(n, context), timeout_seconds)
        if outcome.is_error:
            raise ToolFailed(outcome.content)
        return outcome.content

    async def close(self) -> None:
        """Stop whatever runs. When it returns, no process and no file of it is left."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
        if self._host is not None:
            await self._host.stop()
        for host in list(self._alive):
            host.kill("the bundle is closed")
        await asyncio.gather(*(host.ended() for host in list(self._alive)), *self._stopping)
        self._on_close(self)

    def watch(self, usage: Usage | None) -> None:
        """Called every second or so with what the host uses: end one that uses too much, or that nobody uses."""
        now, host, limits = self._loop.time(), self._host, self._parts.launcher.settings
        elapsed, self._measured_at = now - self._measured_at, now
        if host is None:
            return
        if usage is not None:
            self._resident_bytes = usage.resident_bytes
            self._budget.measured(usage.cpu_seconds, elapsed)
            if usage.resident_bytes > limits.memory_mb * MIB:
                host.kill(f"it used more than {limits.memory_mb} MB of memory", is_crash=True)
            elif self._budget.is_over:
                host.kill(f"it used more than {limits.cpu_seconds} s of CPU time a call", is_crash=True)
        if host.active_calls:
            self._used_at = now
        # A stateful plugin would come back as somebody else.
        if self._plugin.manifest.stateless and now - self._used_at > limits.idle_seconds and host.is_usable:
            self._host = None
            task = self._loop.create_task(host.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _asked(
        self, what: str, request: Callable[[int], Request], timeout_seconds: float, **fields: str
    ) -> ToolOutcome:
        return bounded(await self._answer(what, request, timeout_seconds, **fields))

    async def _answer(
        self, what: str, request: Callable[[int], Request], timeout_seconds: float, **fields: str
    ) -> ToolOutcome:
        deadline = self._loop.time() + timeout_seconds
        try:
            async with asyncio.timeout_at(deadline):
                host = await self._usable_host()
            self._used_at = self._loop.time()
            self._budget.call_started()
            outcome = await host.ask(request, deadline - self._loop.time())
        except TimeoutError:
            self._log("tool_timed_out", **fields)
            return failed(f"{what} did not answer within {timeout_seconds:g} seconds.")
        except BadFrame as error:
            return failed(f"{what} cannot be called with these arguments: {error}.")
        except _CircuitOpen:
            wait = max(1, round(self._circuit.retry_seconds))
            return failed(f"{what} is not available: its plugin crashed repeatedly. Try again in {wait} s.")
        except (HostLost, PluginLoadFailed) as error:
            self._log("tool_lost_its_host", reason=str(error), **fields)
            return failed(f"{what} failed: its plugin stopped.")
        self._circuit.succeeded()
        return outcome

    async def _usable_host(self) -> HostProcess:
        """The host that takes calls, started when there is none. Raises HostLost, PluginLoadFailed."""
        if self._is_closed:
            raise HostLost("the bundle is closed")
        if self._host is not None:
            await self._host.word()
        if self._host is not None and self._host.is_usable:
            return self._host
        if self._starting is None:
            if self._circuit.state == "open":
                raise _CircuitOpen
            self._starting = self._loop.create_task(self._start())
            self._starting.add_done_callback(self._start_ended)
        # Shielded: one who gives up must not take the host from the others who wait for it.
        return await asyncio.shield(self._starting)

    async def _start(self) -> HostProcess:
        plugin = self._plugin
        start = Start(
            plugin.pid, str(self._surroundings.package), self._surroundings.folder, plugin.digest, plugin.settings
        )
        async with self._parts.starts:
            host = HostProcess(self._log, self._ended)
            self._alive.add(host)
            try:
                started = await launched_and_started(
                    host,
                    self._parts.launcher,
                    self._surroundings,
                    start,
                    required_walls=self._parts.required_walls,
                    timeout_seconds=self._parts.load_seconds,
                )
            except PluginLoadFailed as error:
                # It did not crash, but trying at once again would come to the same.
                self._circuit.crashed()
                self._last_reason = error.detail
                raise
        if not self._is_open:
            # What models were offered stays, should the plugin think again when it is started anew.
            self._is_open = True
            tools = tuple(msgspec.structs.replace(tool, pid=self.pid) for tool in started.tools)
            self._started = msgspec.structs.replace(started, tools=tools)
        self._host = host
        self._budget = CpuBudget(self._parts.launcher.settings.cpu_seconds)
        self._used_at = self._loop.time()
        self._log("plugin_host_started", process_id=host.process_id)
        return host

    def _start_ended(self, starting: "asyncio.Task[HostProcess]") -> None:
        self._starting = None
        if not starting.cancelled():
            starting.exception()  # looked at: those who waited may all have given up

    def _ended(self, host: HostProcess, reason: str, is_crash: bool) -> None:
        if self._host is host:
            self._host = None
        if is_crash:
            self._circuit.crashed()
            self._last_reason = reason
        task = self._loop.create_task(self._forget(host))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _forget(self, host: HostProcess) -> None:
        await host.ended()
        self._alive.discard(host)

    def _log(self, event: str, **fields: Any) -> None:
        """All that is logged of a host, its output included. A plugin has its secrets, and may print them."""
        for name, value in fields.items():
            if isinstance(value, str):
                for secret in self._secrets:
                    value = value.replace(secret, "***")
                fields[name] = value
        log.info(event, org_id=str(self._org_id), pid=self.pid, version=self.version, **fields)

    @property
    def _name(self) -> str:
        return f"{self.pid}@{self.version}"
