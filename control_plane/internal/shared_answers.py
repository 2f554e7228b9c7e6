"""One answer for all who ask the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class SharedAnswers:
    """A change makes every worker ask the same within a millisecond. Whoever comes while a question is being asked
    waits for the next time it is asked, together with all others who do: an answer never began before it was asked for,
    so it holds all that its caller may have heard of.
    """

    def __init__(self) -> None:
        self._asking: dict[Hashable, asyncio.Task[Any]] = {}
        self._next: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(
        self,
        question: Hashable,
        ask: Callable[[], Awaitable[T]],
        *,
        suffices: Callable[[T], Awaitable[bool]] | None = None,
    ) -> T:
        """What `ask` answers or raises. Everything that it depends on belongs into `question`.

        Who can find out of an answer that it is new enough does so in `suffices`, and takes one that began earlier.
        """
        if suffices is not None and (asking := self._asking.get(question)):
            # What it raises may be true no more.
            with suppress(Exception):
                earlier: T = await asyncio.shield(asking)
                if await suffices(earlier):
                    return earlier
        task = self._next.get(question)
        if task is None:
            task = asyncio.create_task(self._ask(question, self._asking.get(question), ask))
            self._next[question] = task
            task.add_done_callback(_look)
        # Who leaves does not take the answer from the others.
        answer: T = await asyncio.shield(task)
        return answer

    async def _ask(self, question: Hashable, before: "asyncio.Task[Any] | None", ask: Callable[[], Awaitable[T]]) -> T:
        if before is not None:
            await asyncio.wait({before})
        # From here on nobody joins.
        task = self._asking[question] = self._next.pop(question)
        try:
            return await ask()
        finally:
            if self._asking.get(question) is task:
                del self._asking[question]


def _look(task: "asyncio.Task[Any]") -> None:
    """An error that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()
