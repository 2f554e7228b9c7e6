"""Bundles that run in this process, which only trusted system plugins may.

The plugin's modules have a private name, and nothing else in the process sees them.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from runtime_worker.plugins.base import Anchor, PluginTool, ToolOutcome
from runtime_worker.plugins.packages import PackageCache
from runtime_worker.pool.footprint import footprint_bytes
from shared.errors import PluginLoadFailed, ToolFailed
from shared.logging import get_logger
from shared.packages.modules import PackageModules
from shared.plugin_host.agent import NoPluginClass, RunningAgent, start_agent
from shared.plugin_host.threads import PluginThreads
from shared.plugin_host.tools import failed, no_such_tool, place_of
from shared.snapshots import PluginSnapshot

log = get_logger(__name__)

LOAD_SECONDS = 30.0
CLEANUP_SECONDS = 10.0


class InProcessBundle:
    """See `base.PluginBundle`. Each has modules of its own: not even module-level state is shared between bundles."""

    def __init__(self, plugin: PluginSnapshot, modules: PackageModules, running: RunningAgent) -> None:
        self._plugin = plugin
        self._modules = modules
        self._running: RunningAgent | None = running
        self._abandoned: set[asyncio.Task[Any]] = set()
        # Its modules cannot be told apart from what they import; they are the platform's own.
        self.resident_bytes = footprint_bytes(running.tools)

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
        return self._running.tools if self._running else ()

    @property
    def system_prompt(self) -> str:
        return self._running.system_prompt if self._running else ""

    @property
    def is_scoped(self) -> bool:
        return self._running is not None and self._running.is_scoped

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        if self._running is None:
            return no_such_tool(tool)
        work = self._running.call(tool, arguments)
        return await self._within(timeout_seconds, work, f"The tool {tool}", tool=tool)

    async def load_anchor(self, resource_id: str, *, with_rules: bool, timeout_seconds: float) -> Anchor:
        if self._running is None:
            raise ToolFailed
        work = self._running.load_anchor(resource_id, with_rules=with_rules)
        outcome = await self._within(timeout_seconds, work, "Loading the resource")
        if outcome.is_error or not isinstance(outcome.shown, dict):
            raise ToolFailed(outcome.content)
        return Anchor(outcome.shown, outcome.content)

    async def build_scope_rules(self, context: dict[str, Any], *, timeout_seconds: float) -> str:
        if self._running is None:
            raise ToolFailed
        outcome = await self._within(timeout_seconds, self._running.build_scope_rules(context), "Building scope rules")
        if outcome.is_error:
            raise ToolFailed(outcome.content)
        return outcome.content

    async def close(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await running.agent.cleanup()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # The plugin is on its way out, whatever it thinks of that.
            log.warning("plugin_cleanup_failed", pid=self.pid, error=type(error).__name__, place=place_of(error))
        finally:
            self._modules.unload()

    async def _within(
        self, timeout_seconds: float, work: Coroutine[Any, Any, ToolOutcome], what: str, **fields: str
    ) -> ToolOutcome:
        """The outcome of `work`, or that it took too long, whether or not `work` obeys its cancellation."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task}, timeout=timeout_seconds)
            if task.done():
                return task.result()
            log.warning("tool_timed_out", pid=self.pid, **fields)
            return failed(f"{what} did not answer within {timeout_seconds:g} seconds.")
        finally:
            if not task.done():
                # Kept until it ends: a task nobody holds may be collected in the middle.
                self._abandoned.add(task)
                task.add_done_callback(self._let_go)
                task.cancel()

    def _let_go(self, task: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as forgotten


class InProcessLoader:
    """See `base.BundleLoader`. Takes snapshots whose settings are already opened."""

    def __init__(self, packages: PackageCache, *, load_seconds: float = LOAD_SECONDS) -> None:
        self._packages = packages
        self._load_seconds = load_seconds

    async def load(self, plugin: PluginSnapshot, *, org_id: UUID, instance_id: UUID) -> InProcessBundle:
        package = await self._packages.unpacked(plugin)
        threads = PluginThreads(f"plugin {plugin.pid}")
        modules = await asyncio.to_thread(PackageModules, package.directory, plugin.digest, folder=package.folder)
        name = f"{plugin.pid}@{plugin.version}"

        def tell(event: str, fields: dict[str, str]) -> None:
            log.warning(event, pid=plugin.pid, org_id=str(org_id), **fields)

        try:
            # All of it is the author's code: it may be slow, and it may never return.
            async with asyncio.timeout(self._load_seconds):
                running = await threads.run(lambda: start_agent(modules, plugin.pid, plugin.settings, threads, tell))
            return InProcessBundle(plugin, modules, running)
        except BaseException as error:
            modules.unload()
            match error:
                case TimeoutError():
                    raise PluginLoadFailed(f"{name} did not start within {self._load_seconds:g} seconds") from None
                case NoPluginClass():
                    raise PluginLoadFailed(f"{name} has no plugin class") from None
                case asyncio.CancelledError() | GeneratorExit():
                    raise
                case _:
                    # Type and place only: the text of an author's exception may hold a setting that is secret.
                    log.warning(
                        "plugin_load_failed",
                        pid=plugin.pid,
                        org_id=str(org_id),
                        error=type(error).__name__,
                        place=place_of(error),
                    )
                    raise PluginLoadFailed(f"{name} could not be started: it raised {type(error).__name__}") from None
