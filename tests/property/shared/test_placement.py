"""Who gets what stays as it is when others come and go."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from shared.placement import EASY_RUNS, by_place, overloaded, owners, place_of, rank
from shared.workers import WorkerRecord

PLACES = st.lists(st.from_regex(r"\A[a-z]{1,6}:[0-9]{2,4}\Z"), min_size=1, max_size=8, unique=True)
KEYS = [f"instance-{number}" for number in range(40)]


@given(PLACES, st.text(min_size=1, max_size=40))
def test_the_order_depends_on_the_key_and_the_places_only(places: list[str], key: str) -> None:
    assert rank(key, places) == rank(key, reversed(places))
    assert sorted(rank(key, places)) == sorted(places)


@given(PLACES, st.integers(1, 3))
def test_a_place_that_goes_moves_only_what_it_had(places: list[str], replication: int) -> None:
    gone, *left = places
    for key in KEYS:
        before = owners(key, places, replication)
        after = owners(key, left, replication)
        assert [place for place in before if place != gone] == after[: len(before) - (gone in before)]
        if gone not in before:
            assert before == after


def test_keys_are_spread() -> None:
    places = [f"worker-{number}:8100" for number in range(4)]
    counts = {place: sum(rank(f"i{n}", places)[0] == place for n in range(2000)) for place in places}
    assert all(400 < count < 600 for count in counts.values()), counts


def worker(name: str, active: int, capacity: int = 100, url: str = "") -> WorkerRecord:
    return WorkerRecord(name, url or f"http://{name}:1", "0", datetime.now(UTC), active_runs=active, capacity=capacity)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), min_size=1, max_size=8))
def test_where_not_all_are_full_somebody_is_not_overloaded(loads: list[tuple[int, int]]) -> None:
    workers = [worker(f"w{n}", min(active, capacity), capacity) for n, (active, capacity) in enumerate(loads)]
    found = overloaded(workers)
    assert {w.worker_id for w in workers if w.active_runs >= w.capacity} <= found
    if any(w.active_runs < w.capacity for w in workers):
        assert len(found) < len(workers)
    assert not {w.worker_id for w in workers if w.active_runs < min(EASY_RUNS, w.capacity)} & found


def test_a_place_is_host_and_port_and_its_newest_worker_counts() -> None:
    assert place_of("http://user:secret@Worker-1:8100/base") == "worker-1:8100"
    old, new = worker("old", 0, url="http://a:1"), worker("new", 0, url="http://a:1/")
    assert by_place([new, old]) == {"a:1": new}
