"""What tests of MCP bundles do again and again."""

from collections.abc import Awaitable, Callable
from typing import Any

from runtime_worker.plugins.base import PluginBundle
from shared.snapshots import PluginSnapshot

SECONDS = 10.0
Load = Callable[[PluginSnapshot], Awaitable[PluginBundle]]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def divide(a: float, b: float) -> float:
    """Divide."""
    return a / b


async def added(bundle: PluginBundle, a: Any = 2, b: Any = 3) -> tuple[str, bool]:
    outcome = await bundle.call("add", {"a": a, "b": b}, timeout_seconds=SECONDS)
    return outcome.content, outcome.is_error


def names(bundle: PluginBundle) -> list[str]:
    return [tool.name for tool in bundle.tools]


async def is_answered(bundle: PluginBundle) -> bool:
    return not (await added(bundle))[1]
