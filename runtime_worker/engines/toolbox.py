"""The tools of an instance as its models see them, and back from a model's name to the plugin that does the work."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import msgspec

from runtime_worker.models.base import ModelTool
from runtime_worker.plugins.base import PluginBundle, PluginTool

MAX_NAME_CHARS = 64
"""Of a function name, as every provider has it (`^[a-zA-Z0-9_-]{1,64}$`)."""
NO_ARGUMENTS = {"type": "object", "properties": {}}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


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
            candidates = _names(bundle.pid, tool.name, is_shared=_valid(tool.name) in shared)
            name = next(name for name in candidates if name not in taken)
            taken.add(name)
            offered = ModelTool(name, tool.description, tool.parameters or NO_ARGUMENTS)
            self._by_name[name] = OfferedTool(bundle, tool, offered, f"{bundle.pid}.{tool.name}")

    def find(self, name: str) -> OfferedTool | None:
        return self._by_name.get(name)

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
    yield _fitting(f"{segments[-1]}__{plain}")
    yield _fitting(f"{'_'.join(segments)}__{plain}")
    for salt in range(1_000):
        yield _with_digest(f"{segments[-1]}__{plain}", f"{pid}.{tool}.{salt}")


def _valid(name: str) -> str:
    return _fitting(_NOT_IN_NAMES.sub("_", name) or "tool")


def _fitting(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else _with_digest(name, name)


def _with_digest(name: str, whole: str) -> str:
    return f"{name[: MAX_NAME_CHARS - 9]}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
