"""One run's way to its event sink: keeps starts and ends paired and remembers what became visible."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from runtime_worker.engines.base import EventSink

CUT_OFF = "the run ended before the tool did"


class Telling:
    """Belongs to one run. Whatever happens inside a `with`, the end is told, in the right order."""

    def __init__(self, sink: EventSink) -> None:
        self.sink = sink
        self._visible: list[str] = []

    @contextmanager
    def agent(self, agent: str, node: str) -> Iterator[None]:
        self.sink.agent_start(agent, node)
        try:
            yield
        finally:
            self.sink.agent_end(agent, node)

    @contextmanager
    def tool(self, tool: str, call_id: str, args: Mapping[str, Any]) -> Iterator[Callable[..., None]]:
        """Yields what to call once, with `duration_ms` and `result` or `error`; a tool that is not ended is cut off."""
        self.sink.tool_start(tool, call_id, args)
        is_ended = False

        def end(*, duration_ms: int, result: Any = None, error: str | None = None) -> None:
            nonlocal is_ended
            is_ended = True
            self.sink.tool_end(tool, call_id, duration_ms=duration_ms, result=result, error=error)

        try:
            yield end
        finally:
            if not is_ended:
                end(duration_ms=0, error=CUT_OFF)

    def writer(self, node: str) -> Callable[[str], None]:
        """What an answering node's model writes through: the short way, one list append beside the sink itself.

        White space that an answer begins with is told with the first word: models put it before calls, too, and who has
        shown nothing else has not begun to answer.
        """
        visible, remember, tell = self._visible, self._visible.append, self.sink.message
        held = ""

        def write(text: str) -> None:
            nonlocal held
            if not visible:
                held += text
                if not held.strip():
                    return
                text, held = held, ""
            remember(text)
            tell(text, node)

        return write

    @property
    def has_visible_text(self) -> bool:
        return bool(self._visible)

    @property
    def answer(self) -> str:
        return "".join(self._visible)
