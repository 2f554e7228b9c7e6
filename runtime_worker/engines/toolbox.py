"""The tools of an instance as its models see them, and back from a model's name to the plugin that does the work."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import msgspec

from runtime_worker.engines.names import first_free, fitting, valid, with_digest
from runtime_worker.models.base import ModelTool
from runtime_worker.plugins.base import PluginBundle, PluginTool

NO_ARGUMENTS = {"type": "object", "properties": {}}


class OfferedTool(msgspec.Struct, frozen=True):
    """`offered.name` is what models call it, `reported` what clients see, always `<pid>.<tool>`."""

    bundle: PluginBundle
    tool: PluginTool
    offered: ModelTool
    reported: str


class Toolbox:
    """Names are given out once, when an instance is built, and in the order of its plugins."""

    def __init__(self, bundles: Sequence[PluginBundle], *, reserved: Collection[str] = ()) -> None:
        pairs = [(bundle, tool) for bundle in bundles for tool in bundle.tools]
        shared = {name for name, count in Counter(_valid(tool.name) for _, tool in pairs).items() if count > 1}
        taken = set(reserved)
        self._by_name: dict[str, OfferedTool] = {}
        for bundle, tool in pairs:
            name = first_free(_names(bundle.pid, tool.name, is_shared=_valid(tool.name) in shared), taken)
            taken.add(name)
            offered = ModelTool(name, tool.description, tool.parameters or NO_ARGUMENTS)
            self._by_name[name] = OfferedTool(bundle, tool, offered, f"{bundle.pid}.{tool.name}")

    def find(self, name: str) -> OfferedTool | None:
        return self._by_name.get(name)

    def only(self, pid: str) -> "Toolbox":
        """The tools of one plugin, under the same names: what an agent that works with nothing else is offered."""
        own = Toolbox(())
        own._by_name = {name: tool for name, tool in self._by_name.items() if tool.bundle.pid == pid}
        return own

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    @property
    def offered(self) -> tuple[ModelTool, ...]:
        return tuple(tool.offered for tool in self._by_name.values())

    @property
    def has_validated(self) -> bool:
        return any(tool.tool.needs_validation for tool in self._by_name.values())


def _names(pid: str, tool: str, *, is_shared: bool) -> Iterator[str]:
    """Candidates for a name, the nicest first: `tool`, `<short>__tool`, `<whole pid>__tool`, then with a digest."""
    plain, segments = _valid(tool), [_valid(part) for part in pid.split(".")]
    if not is_shared:
        yield plain
    yield fitting(f"{segments[-1]}__{plain}")
    yield fitting(f"{'_'.join(segments)}__{plain}")
    for salt in range(1_000):
        yield with_digest(f"{segments[-1]}__{plain}", f"{pid}.{tool}.{salt}")


def _valid(name: str) -> str:
    return valid(name, empty="tool")
