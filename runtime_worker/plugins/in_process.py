"""Bundles that run in this process: the plugin's modules under a private name, its agent, its tools."""

import asyncio
from typing import Any
from uuid import UUID

import msgspec
from cadence_sdk import BaseAgent, BaseSpecializedAgent

from runtime_worker.plugins.base import PluginTool, ToolOutcome
from runtime_worker.plugins.packages import PackageCache
from runtime_worker.plugins.threads import PluginThreads
from runtime_worker.plugins.tools import CallableTool, place_of
from shared.errors import PluginLoadFailed
from shared.logging import get_logger
from shared.packages.contents import find_plugin_class
from shared.packages.modules import PackageModules
from shared.snapshots import PluginSnapshot

log = get_logger(__name__)

LOAD_SECONDS = 30.0
CLEANUP_SECONDS = 10.0


class _Started(msgspec.Struct, frozen=True):
    agent: BaseAgent
    tools: tuple[CallableTool, ...]
    system_prompt: str


class InProcessBundle:
    """See `base.PluginBundle`. Each has modules of its own: not even module-level state is shared between bundles."""

    def __init__(
        self, plugin: PluginSnapshot, modules: PackageModules, threads: PluginThreads, started: _Started
    ) -> None:
        self._plugin = plugin
        self._modules = modules
        self._threads = threads
        self._started: _Started | None = started
        self._tools = {tool.description.name: tool for tool in started.tools}
        self._described = tuple(tool.description for tool in started.tools)

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
        return self._described

    @property
    def system_prompt(self) -> str:
        return self._started.system_prompt if self._started else ""

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        found = self._tools.get(tool)
        if found is None:
            message = f"There is no tool {tool!r}."
            return ToolOutcome(message, message, is_error=True)
        return await found.call(arguments, timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        started, self._started = self._started, None
        if started is None:
            return
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await started.agent.cleanup()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # The plugin is on its way out, whatever it thinks of that.
            log.warning("plugin_cleanup_failed", pid=self.pid, error=type(error).__name__, place=place_of(error))
        finally:
            self._tools = {}
            self._modules.unload()


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
        try:
            # All of it is the author's code: it may be slow, and it may never return.
            async with asyncio.timeout(self._load_seconds):
                started = await threads.run(lambda: _start(plugin, modules, threads))
            return InProcessBundle(plugin, modules, threads, started)
        except BaseException as error:
            modules.unload()
            match error:
                case TimeoutError():
                    raise PluginLoadFailed(f"{name} did not start within {self._load_seconds:g} seconds") from None
                case PluginLoadFailed() | asyncio.CancelledError() | GeneratorExit():
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


def _start(plugin: PluginSnapshot, modules: PackageModules, threads: PluginThreads) -> _Started:
    plugin_class = find_plugin_class(modules.load(), modules)
    if plugin_class is None:
        raise PluginLoadFailed(f"{plugin.pid}@{plugin.version} has no plugin class")
    agent = plugin_class.create_agent()
    agent.initialize(dict(plugin.settings))
    tools = tuple(CallableTool(plugin.pid, tool, threads) for tool in agent.get_tools())
    prompt = str(agent.get_system_prompt()) if isinstance(agent, BaseSpecializedAgent) else ""
    return _Started(agent, tools, prompt)
