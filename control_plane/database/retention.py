"""What is kept for a time is deleted when that is over."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import SQLAlchemyError

from shared.logging import get_logger

EVERY_SECONDS = 6 * 3600.0

log = get_logger(__name__)


async def keep_pruned(what: str, prune: Callable[[], Awaitable[int]]) -> None:
    """`prune` now and every six hours, until cancelled. `what` names it in the log."""
    while True:
        try:
            await prune()
        except (SQLAlchemyError, OSError) as error:
            log.warning(f"{what}_not_pruned", reason=type(error).__name__)
        await asyncio.sleep(EVERY_SECONDS)
