"""How much a built orchestrator holds, without looking at every one."""

from runtime_worker.pool.footprint import MAX_KINDS, Footprints, footprint_bytes


def test_only_what_is_its_own_is_counted_and_once() -> None:
    shared, text = ["shared" * 100], "own" * 1000

    alone = footprint_bytes([text])
    assert len(text) < alone < len(text) + 500
    assert footprint_bytes([text, text, shared], shared=[shared]) < alone + 100


def test_builds_of_one_kind_are_measured_once_and_others_anew() -> None:
    measured: list[int] = []

    def measure(size: int) -> int:
        measured.append(size)
        return size

    footprints = Footprints()
    assert [footprints.of("kind", 1050, lambda: measure(5)) for _ in range(3)] == [5, 5, 5]
    assert footprints.of("kind", 1150, lambda: measure(6)) == 5
    assert footprints.of("kind", 1300, lambda: measure(6)) == 6
    assert footprints.of("other", 1050, lambda: measure(7)) == 7
    assert measured == [5, 6, 7]


def test_kinds_are_forgotten_when_there_are_too_many() -> None:
    footprints = Footprints()
    for number in range(MAX_KINDS + 1):
        footprints.of(number, 1, lambda: 1)

    assert footprints.of(MAX_KINDS, 1, lambda: 2) == 1
    assert footprints.of(0, 1, lambda: 2) == 2
