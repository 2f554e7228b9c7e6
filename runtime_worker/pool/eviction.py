"""Who leaves memory: pure decisions over what the pool holds, oldest use first."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

MB = 1_000_000


class PoolLimits(msgspec.Struct, frozen=True):
    """`demand_ttl_seconds` is how long an unused on-demand orchestrator stays hot, `warm_ttl_seconds` its snapshot.

    `max_memory_bytes` is for everything built together, with the processes of its plugins.
    """

    max_hot_pool_size: int = 200
    demand_ttl_seconds: float = 900.0
    warm_ttl_seconds: float = 3600.0
    max_memory_bytes: int = 1024 * MB


class Holding(msgspec.Struct, frozen=True):
    """What one build holds: `own_bytes` that end with it, and `parts` (by `id`), which may be others' too."""

    own_bytes: int = 0
    parts: frozenset[int] = frozenset()


class HotView(msgspec.Struct, frozen=True):
    """`is_pinned`: its tier is hot and this worker owns it. `is_busy`: leased, waited for, or being rebuilt now."""

    instance_id: UUID
    last_used: float
    is_pinned: bool
    is_busy: bool
    holding: Holding = Holding()


class Memory:
    """What all builds hold, each part counted once; `parts` are the bytes of each."""

    def __init__(self, holdings: Iterable[Holding], parts: Mapping[int, int]) -> None:
        self._parts = parts
        self._holders: Counter[int] = Counter()
        self.used_bytes = 0
        for holding in holdings:
            self.used_bytes += holding.own_bytes
            self._holders.update(holding.parts)
        self.used_bytes += sum(parts.get(part, 0) for part in self._holders)

    def let_go(self, holding: Holding) -> None:
        """As if this build were gone: a part ends with its last holder."""
        self.used_bytes -= holding.own_bytes
        for part in holding.parts:
            self._holders[part] -= 1
            if not self._holders[part]:
                self.used_bytes -= self._parts.get(part, 0)


class Evictions(msgspec.Struct, frozen=True):
    """`expired` were not used for too long; `pressed` had to make room."""

    expired: tuple[UUID, ...]
    pressed: tuple[UUID, ...]


def choose_evictions(hot: Sequence[HotView], now: float, limits: PoolLimits, memory: Memory) -> Evictions:
    """Which orchestrators go from hot to warm. Busy ones never do, so the pool may be over its limits for a while.

    When room must be made, on-demand ones go before pinned ones, each in order of last use. `memory` is used up.
    """
    idle = sorted((view for view in hot if not view.is_busy), key=lambda view: view.last_used)
    expired = [v for v in idle if not v.is_pinned and now - v.last_used >= limits.demand_ttl_seconds]
    gone = {view.instance_id for view in expired}
    for view in expired:
        memory.let_go(view.holding)
    surplus = len(hot) - len(expired) - limits.max_hot_pool_size
    pressed: list[UUID] = []
    for view in sorted((view for view in idle if view.instance_id not in gone), key=lambda view: view.is_pinned):
        if len(pressed) >= surplus and memory.used_bytes <= limits.max_memory_bytes:
            break
        memory.let_go(view.holding)
        pressed.append(view.instance_id)
    return Evictions(expired=tuple(view.instance_id for view in expired), pressed=tuple(pressed))


def choose_cooling(warm: Iterable[tuple[UUID, float]], now: float, limits: PoolLimits) -> tuple[UUID, ...]:
    """Which snapshots are dropped, given (instance id, last use) of the warm entries."""
    return tuple(i for i, last_used in warm if now - last_used >= limits.warm_ttl_seconds)


def retry_delay_seconds(attempts: int) -> float:
    """Wait after failed build number `attempts` (1-based): 1, 2, 4 … at most 60. A changed input ends the wait."""
    return float(min(2.0 ** (attempts - 1), 60.0))
