import threading
from typing import ClassVar, Literal

from packaging.version import InvalidVersion, Version

from cadence_sdk.base.plugin import BasePlugin
from cadence_sdk.registry.contracts import PluginContract


class PluginRegistry:
    """The plugins known in this process, one version each, by pid. Safe to use from several threads.

    For scripts and tests of authors: the platform finds the plugin class in `plugin.py` by itself.
    """

    _instance: ClassVar["PluginRegistry | None"] = None
    _instance_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._contracts: dict[str, PluginContract] = {}
        self._lock = threading.RLock()

    @classmethod
    def instance(cls) -> "PluginRegistry":
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def register(self, plugin_class: type[BasePlugin], override: bool = False) -> PluginContract:
        """Register and return what is registered afterwards: the higher version wins unless `override` is set.

        Raises TypeError for a class that is no plugin.
        """
        contract = PluginContract(plugin_class)
        with self._lock:
            known = self._contracts.get(contract.pid)
            if known is not None and not override and _order(known.version) > _order(contract.version):
                return known
            self._contracts[contract.pid] = contract
            return contract

    def get_plugin(self, pid: str) -> PluginContract | None:
        with self._lock:
            return self._contracts.get(pid)

    def get_plugin_by_version(self, pid: str, version: str) -> PluginContract | None:
        """The plugin if it is registered at exactly this version."""
        contract = self.get_plugin(pid)
        return contract if contract is not None and contract.version == version else None

    def get_all_ids(self) -> list[str]:
        with self._lock:
            return list(self._contracts)

    def list_registered_plugins(self) -> list[PluginContract]:
        with self._lock:
            return list(self._contracts.values())

    def list_plugins_by_capability(self, capability: str) -> list[PluginContract]:
        return [c for c in self.list_registered_plugins() if capability in c.capabilities]

    def list_plugins_by_type(self, agent_type: Literal["specialized", "scoped"] | str) -> list[PluginContract]:
        """Plugins whose agent is specialized or scoped (one may be both); an unknown type has none."""
        match agent_type:
            case "specialized":
                return [c for c in self.list_registered_plugins() if c.is_specialized]
            case "scoped":
                return [c for c in self.list_registered_plugins() if c.is_scoped]
            case _:
                return []

    def has_plugin(self, pid: str) -> bool:
        return self.get_plugin(pid) is not None

    def unregister(self, pid: str) -> bool:
        """Whether there was one to remove."""
        with self._lock:
            return self._contracts.pop(pid, None) is not None

    def clear_all(self) -> None:
        with self._lock:
            self._contracts.clear()


def register_plugin(plugin_class: type[BasePlugin], override: bool = False) -> PluginContract:
    """Register with the process-wide registry."""
    return PluginRegistry.instance().register(plugin_class, override=override)


def _order(version: str) -> tuple[int, Version]:
    """PEP 440 order; what is no version comes before everything that is one."""
    try:
        return 1, Version(version)
    except InvalidVersion:
        return 0, Version("0")
