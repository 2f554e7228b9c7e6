from collections.abc import Mapping, Sequence
from uuid import UUID

from runtime_worker.pool.eviction import (
    Evictions,
    Holding,
    HotView,
    Memory,
    PoolLimits,
    choose_cooling,
    retry_delay_seconds,
)
from runtime_worker.pool.eviction import choose_evictions as choose

LIMITS = PoolLimits(max_hot_pool_size=2, demand_ttl_seconds=100, warm_ttl_seconds=1000, max_memory_bytes=100)
ROOMY = PoolLimits(max_hot_pool_size=99, demand_ttl_seconds=100, warm_ttl_seconds=1000, max_memory_bytes=100)


def hot(
    number: int,
    last_used: float,
    *,
    pinned: bool = False,
    busy: bool = False,
    own_bytes: int = 0,
    parts: frozenset[int] = frozenset(),
) -> HotView:
    return HotView(UUID(int=number), last_used, pinned, busy, Holding(own_bytes, parts))


def choose_evictions(
    views: Sequence[HotView], now: float, limits: PoolLimits, parts: Mapping[int, int] | None = None
) -> Evictions:
    return choose(views, now, limits, Memory((view.holding for view in views), parts or {}))


def ids(*numbers: int) -> tuple[UUID, ...]:
    return tuple(UUID(int=number) for number in numbers)


def test_the_least_recently_used_make_room_first() -> None:
    evictions = choose_evictions([hot(1, 30), hot(2, 10), hot(3, 20), hot(4, 40)], 50, LIMITS)
    assert evictions.pressed == (UUID(int=2), UUID(int=3))
    assert evictions.expired == ()


def test_a_pinned_orchestrator_goes_after_the_ones_on_demand() -> None:
    evictions = choose_evictions([hot(1, 1, pinned=True), hot(2, 2, pinned=True), hot(3, 30)], 50, LIMITS)
    assert evictions.pressed == (UUID(int=3),)


def test_a_busy_orchestrator_never_goes() -> None:
    evictions = choose_evictions([hot(n, 0, busy=True) for n in range(5)], 1_000_000, LIMITS)
    assert evictions.expired == evictions.pressed == ()


def test_an_unused_one_on_demand_expires_and_a_pinned_one_does_not() -> None:
    evictions = choose_evictions([hot(1, 0), hot(2, 0, pinned=True)], 100, LIMITS)
    assert evictions.expired == (UUID(int=1),)
    assert evictions.pressed == ()


def test_what_expired_counts_as_room() -> None:
    evictions = choose_evictions([hot(1, 0), hot(2, 90), hot(3, 95)], 100, LIMITS)
    assert evictions.expired == (UUID(int=1),)
    assert evictions.pressed == ()


def test_a_snapshot_nobody_asked_for_cools_down_after_its_time() -> None:
    assert choose_cooling([(UUID(int=1), 0), (UUID(int=2), 1)], 1000, LIMITS) == (UUID(int=1),)


def test_failed_builds_wait_longer_each_time_up_to_a_minute() -> None:
    assert [retry_delay_seconds(n) for n in (1, 2, 3, 4, 5, 6, 7, 50)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_too_much_memory_makes_as_many_go_as_it_takes() -> None:
    views = [hot(n, n, own_bytes=40) for n in range(1, 5)]
    assert choose_evictions(views, 10, ROOMY).pressed == ids(1, 2)
    assert choose_evictions(views[:2], 10, ROOMY).pressed == ()


def test_a_shared_part_counts_once_and_goes_with_its_last_holder() -> None:
    plugin = {7: 90}
    views = [hot(n, n, own_bytes=5, parts=frozenset({7})) for n in range(1, 4)]
    assert Memory((view.holding for view in views), plugin).used_bytes == 105
    assert choose_evictions(views, 10, ROOMY, plugin).pressed == ids(1)
    busy = [hot(1, 1, own_bytes=20, parts=frozenset({7}), busy=True), hot(2, 2, parts=frozenset({7}))]
    assert choose_evictions(busy, 10, ROOMY, plugin).pressed == ids(2), "all there is to send away"


def test_what_expired_counts_as_memory_too() -> None:
    views = [hot(1, 0, own_bytes=60), hot(2, 90, own_bytes=60)]
    assert choose_evictions(views, 100, ROOMY) == Evictions(expired=ids(1), pressed=())
