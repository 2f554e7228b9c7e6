"""Whether two questions can be told apart by how long their answers take.

Samples come in pairs whose order is drawn by lot, so that nothing a busy machine does favours one side: if both take
the same time, the differences of the pairs are as often and as much above zero as below, whatever the load is. That is
what Wilcoxon's signed-rank test asks, without a threshold in milliseconds.
"""

import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

PAIRS = 60
WARM_UP = 5
ALPHA = 1e-4
ATTEMPTS = 3
"""How often in a row the two must be told apart: by chance that happens once in 10^12 routes."""

Ask = Callable[[], Awaitable[object]]


class Comparison(msgspec.Struct, frozen=True):
    """`chance` is how likely a difference of this kind is when there is none."""

    name: str
    median_microseconds: float
    difference_microseconds: float
    chance: float
    attempts: int

    @property
    def can_be_told_apart(self) -> bool:
        return self.chance < ALPHA

    def __str__(self) -> str:
        return (
            f"{self.name:<79}{self.median_microseconds:>8.0f} µs {self.difference_microseconds:>+8.0f} µs"
            f"   p {self.chance:.4f}, attempts {self.attempts}"
        )


async def compared(name: str, foreign: Ask, unknown: Ask) -> Comparison:
    """Of foreign against unknown, by the first attempt that finds nothing, or the last one."""
    for ask in [foreign, unknown] * WARM_UP:
        await ask()
    signs = set()
    for attempt in range(1, ATTEMPTS + 1):
        pairs = [await _pair(foreign, unknown) for _ in range(PAIRS)]
        differences = [theirs - nobodys for theirs, nobodys in pairs]
        usual, difference = statistics.median(second for _, second in pairs), statistics.median(differences)
        signs.add(difference > 0)
        chance = chance_of(differences) if len(signs) == 1 else 1.0
        found = Comparison(name, usual * 1e6, difference * 1e6, chance, attempt)
        if not found.can_be_told_apart:
            break
    return found


def chance_of(differences: Sequence[float]) -> float:
    """Two-sided, by the normal approximation, which is good from a few dozen differences on."""
    ranked = sorted((difference for difference in differences if difference), key=abs)
    number = len(ranked)
    if not number:
        return 1.0
    total = sum(math.copysign(rank, difference) for rank, difference in enumerate(ranked, start=1))
    deviation = math.sqrt(number * (number + 1) * (2 * number + 1) / 6)
    return math.erfc(abs(total) / deviation / math.sqrt(2))


async def _pair(foreign: Ask, unknown: Ask) -> tuple[float, float]:
    if random.random() < 0.5:
        first = await _seconds(foreign)
        return first, await _seconds(unknown)
    first = await _seconds(unknown)
    return await _seconds(foreign), first


async def _seconds(ask: Ask) -> float:
    before = time.perf_counter()
    await ask()
    return time.perf_counter() - before
