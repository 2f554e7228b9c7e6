"""An event sink that keeps what it was told, in order."""

from collections.abc import Mapping
from typing import Any


class RecordingSink:
    """`events` are `(type, …)` tuples: `("agent_start", node)`, `("tool_end", tool, call_id, result, error)` …"""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def agent_start(self, agent: str, node: str) -> None:
        self._add(("agent_start", agent, node))

    def agent_end(self, agent: str, node: str) -> None:
        self._add(("agent_end", agent, node))

    def tool_start(self, tool: str, call_id: str, args: Mapping[str, Any]) -> None:
        self._add(("tool_start", tool, call_id, dict(args)))

    def tool_end(
        self, tool: str, call_id: str, *, duration_ms: int, result: Any = None, error: str | None = None
    ) -> None:
        self._add(("tool_end", tool, call_id, result, error))

    def message(self, content: str, node: str) -> None:
        self._add(("message", content, node))

    def suggestion(self, content: str) -> None:
        self._add(("suggestion", content))

    def _add(self, event: tuple[Any, ...]) -> None:
        self.events.append(event)

    async def recorded(self) -> None:
        """At once: what these tests run has no turn around it."""

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]

    @property
    def text(self) -> str:
        return "".join(content for content, _ in self.of("message"))

    @property
    def nodes(self) -> list[str]:
        """The nodes in the order they began, without the plugin agents inside them."""
        return [node for agent, node in self.of("agent_start") if agent == node.removesuffix("_node")]

    def assert_paired(self) -> None:
        """Agents are properly nested and everything that started has ended, tools inside their node."""
        agents: list[tuple[str, str]] = []
        tools: set[str] = set()
        for kind, *rest in self.events:
            match kind:
                case "agent_start":
                    agents.append((rest[0], rest[1]))
                case "agent_end":
                    assert agents.pop() == (rest[0], rest[1])
                case "tool_start":
                    assert rest[1] not in tools
                    tools.add(rest[1])
                case "tool_end":
                    tools.remove(rest[1])
        assert not agents, f"never ended: {agents}"
        assert not tools, f"never ended: {tools}"
