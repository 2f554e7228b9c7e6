"""How a chat with a plugin is shown: as lines for people, or as one JSON object a line."""

import json
import traceback
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape


class Telling(Protocol):
    def tool_start(self, name: str, arguments: dict[str, Any]) -> None: ...

    def tool_end(self, name: str, result: str, shown: str | None) -> None:
        """`result` is what the model reads, `shown` what the user sees of it; None when the tool does not stream."""
        ...

    def tool_failed(self, name: str, reason: str) -> None: ...

    def tool_raised(self, name: str, error: Exception) -> None: ...

    def answer(self, text: str) -> None: ...


class ForPeople:
    def __init__(self, console: Console) -> None:
        self._console = console

    def tool_start(self, name: str, arguments: dict[str, Any]) -> None:
        self._put(f"[cyan]→ {escape(name)}[/] [dim]{escape(json.dumps(arguments, ensure_ascii=False))}[/]")

    def tool_end(self, name: str, result: str, shown: str | None) -> None:
        self._put(f"[cyan]← {escape(name)}[/] [dim]{escape(result)}[/]")
        if shown is not None:
            self._put(f"[cyan]  shown to the user:[/] [dim]{escape(shown)}[/]")

    def tool_failed(self, name: str, reason: str) -> None:
        self._put(f"[red]✗ {escape(name)}[/] [dim]{escape(reason)}[/]")

    def tool_raised(self, name: str, error: Exception) -> None:
        self.tool_failed(name, f"{type(error).__name__}: {error}")
        self._put(f"[dim]{escape(''.join(traceback.format_exception(error)).rstrip())}[/]")

    def answer(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _put(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


class AsJson:
    """The names of the events are those of the chat's stream."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def tool_start(self, name: str, arguments: dict[str, Any]) -> None:
        self._put(event="tool_start", tool=name, args=arguments)

    def tool_end(self, name: str, result: str, shown: str | None) -> None:
        self._put(event="tool_end", tool=name, result=result, shown=shown)

    def tool_failed(self, name: str, reason: str) -> None:
        self._put(event="tool_end", tool=name, error=reason)

    def tool_raised(self, name: str, error: Exception) -> None:
        self.tool_failed(name, f"{type(error).__name__}: {error}")

    def answer(self, text: str) -> None:
        self._put(event="message", content=text)

    def _put(self, **event: Any) -> None:
        self._console.print(json.dumps(event, ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
