"""Who leaves memory: pure decisions over what the pool holds, oldest use first."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec


class PoolLimits(msgspec.Struct, frozen=True):
    """`demand_ttl_seconds` is how long an unused on-demand orchestrator stays hot, `warm_ttl_seconds` its snapshot."""

    max_hot_pool_size: int = 200
    demand_ttl_seconds: float = 900.0
    warm_ttl_seconds: float = 3600.0


class HotView(msgspec.Struct, frozen=True):
    """`is_pinned`: its tier is hot and this worker owns it. `is_busy`: leased, or being rebuilt right now."""

    instance_id: UUID
    last_used: float
    is_pinned: bool
    is_busy: bool


class Evictions(msgspec.Struct, frozen=True):
    """`expired` were not used for too long; `pressed` had to make room."""

    expired: tuple[UUID, ...]
    pressed: tuple[UUID, ...]


def choose_evictions(hot: Sequence[HotView], now: float, limits: PoolLimits) -> Evictions:
    """Which orchestrators go from hot to warm. Busy ones never do, so the pool may be over its size for a while.

    When room must be made, on-demand ones go before pinned ones, each in order of last use.
    """
    idle = sorted((view for view in hot if not view.is_busy), key=lambda view: view.last_used)
    expired = [v for v in idle if not v.is_pinned and now - v.last_used >= limits.demand_ttl_seconds]
    gone = {view.instance_id for view in expired}
    surplus = len(hot) - len(expired) - limits.max_hot_pool_size
    candidates = sorted((view for view in idle if view.instance_id not in gone), key=lambda view: view.is_pinned)
    return Evictions(
        expired=tuple(view.instance_id for view in expired),
        pressed=tuple(view.instance_id for view in candidates[: max(0, surplus)]),
    )


def choose_cooling(warm: Iterable[tuple[UUID, float]], now: float, limits: PoolLimits) -> tuple[UUID, ...]:
    """Which snapshots are dropped, given (instance id, last use) of the warm entries."""
    return tuple(i for i, last_used in warm if now - last_used >= limits.warm_ttl_seconds)


def retry_delay_seconds(attempts: int) -> float:
    """Wait after failed build number `attempts` (1-based): 1, 2, 4 … at most 60. A changed input ends the wait."""
    return float(min(2.0 ** (attempts - 1), 60.0))
