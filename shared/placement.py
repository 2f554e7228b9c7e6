"""Who gets what: rendezvous hashing of a key over the places where workers run, and who has too much to do already.

A worker's place is the host and port it is reached at. It stays the same when a process is restarted there, so a
restart moves nothing; and it is all that a proxy knows of a worker, so a proxy can come to the same result
(`deploy/gateway/rendezvous.lua` does).
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from shared.workers import WorkerRecord

LOAD_FACTOR = 1.25
"""How far above its part of all runs a worker may go before others are asked first: what is known as consistent hashing
with bounded loads. More keeps instances together, less evens out sooner."""

EASY_RUNS = 64
"""So many runs are never too many, whatever the others do: with few runs every share is a coincidence."""


def place_of(url: str) -> str:
    """Host and port of a worker's URL."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def rank(key: str, places: Iterable[str]) -> list[str]:
    """All places, the one that should have the key first. A new place takes its part of the keys from all others, and
    one that goes leaves each of its keys to the next in the key's own order."""
    return sorted(places, key=lambda place: (hashlib.sha256(f"{place}|{key}".encode()).digest(), place), reverse=True)


def owners(key: str, places: Iterable[str], replication: int) -> list[str]:
    """The places that keep a hot instance built."""
    return rank(key, places)[:replication]


def by_place(workers: Iterable[WorkerRecord]) -> dict[str, WorkerRecord]:
    """One worker for each place: a process that was killed there may be remembered beside its successor."""
    return {place_of(worker.url): worker for worker in sorted(workers, key=lambda worker: worker.started_at)}


def overloaded(workers: Sequence[WorkerRecord]) -> frozenset[str]:
    """Ids of the workers that are full, or have more than `LOAD_FACTOR` times their capacity's part of all runs."""
    capacity = sum(worker.capacity for worker in workers)
    if capacity == 0:
        return frozenset()
    active = sum(worker.active_runs for worker in workers)
    return frozenset(
        worker.worker_id
        for worker in workers
        if worker.active_runs >= min(worker.capacity, _bound(active * worker.capacity / capacity))
    )


def _bound(fair_share: float) -> int:
    return max(EASY_RUNS, math.ceil(LOAD_FACTOR * fair_share))
