"""Background tasks end when they are told to."""

import asyncio

import pytest

from shared import background
from shared.background import BackgroundTasks


async def test_a_task_that_swallowed_its_cancellation_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CANCEL_AGAIN_SECONDS", 0.01)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed += 1

    tasks = BackgroundTasks(on_death=lambda: None)
    tasks.start("stubborn", stubborn())
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await tasks.stop()

    assert swallowed == 1
