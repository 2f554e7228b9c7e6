"""What models call the plugin agents of an instance. Events and results say pids instead."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from runtime_worker.engines.names import MAX_NAME_CHARS, first_free, valid, with_digest

TRANSFER_PREFIX = "transfer_to_"
MAX_AGENT_NAME_CHARS = MAX_NAME_CHARS - len(TRANSFER_PREFIX)


class AgentNames:
    """Given out once, when an instance is built: the last segment of a pid, or more of it when that is not unique."""

    def __init__(self, pids: Sequence[str], *, reserved: Collection[str] = ()) -> None:
        counts = Counter(_valid(pid.rpartition(".")[2]) for pid in pids)
        self._names: dict[str, str] = {}
        taken = set(reserved)
        for pid in pids:
            name = first_free(_candidates(pid, is_shared=counts[_valid(pid.rpartition(".")[2])] > 1), taken)
            taken.add(name)
            self._names[pid] = name
        self._pids = {name.lower(): pid for pid, name in self._names.items()}
        self._pids |= {pid.lower(): pid for pid in pids}

    def of(self, pid: str) -> str:
        return self._names[pid]

    def pid(self, name: str) -> str | None:
        """The agent that a model means: models change the case of a name, and some say the pid."""
        return self._pids.get(name.strip().lower())

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(self._names.values())


def _candidates(pid: str, *, is_shared: bool) -> Iterator[str]:
    short, whole = _valid(pid.rpartition(".")[2]), _valid(pid)
    if not is_shared:
        yield short
    yield whole
    for salt in range(1_000):
        yield with_digest(short, f"{pid}.{salt}", MAX_AGENT_NAME_CHARS)


def _valid(name: str) -> str:
    return valid(name, empty="agent", max_chars=MAX_AGENT_NAME_CHARS)
