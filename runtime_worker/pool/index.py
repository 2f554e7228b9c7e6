"""Every instance this worker knows of, with the subsets that upkeep walks over instead of the whole."""

from uuid import UUID

from runtime_worker.pool.entry import Entry, Generation
from shared.snapshots import InstanceChange, OrchestratorSnapshot

MAX_GONE = 10_000
"""So many instances that went last are remembered: no message is late by more than that."""


class PoolIndex:
    """Entries by instance. All changes of residency go through here, so that the subsets are always right."""

    def __init__(self) -> None:
        self._entries: dict[UUID, Entry] = {}
        self._gone: dict[UUID, int] = {}
        self.hot: dict[UUID, Entry] = {}
        self.warm: dict[UUID, Entry] = {}
        self.hot_tier: dict[UUID, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, instance_id: UUID) -> Entry | None:
        return self._entries.get(instance_id)

    def holds(self, entry: Entry) -> bool:
        """Whether this is still the entry of its instance."""
        return self._entries.get(entry.instance_id) is entry

    def all(self) -> list[Entry]:
        return list(self._entries.values())

    def known_revision(self, instance_id: UUID) -> int:
        """The newest revision heard of, also of instances that are gone; -1 for one never heard of."""
        entry = self._entries.get(instance_id)
        return entry.revision if entry else self._gone.get(instance_id, -1)

    def take(self, change: InstanceChange, now: float) -> Entry:
        entry = self._entries.get(change.instance_id)
        if entry is None:
            entry = self._entries[change.instance_id] = Entry(change, now)
            self._gone.pop(change.instance_id, None)
        else:
            entry.take(change)
        if entry.tier == "hot":
            self.hot_tier[entry.instance_id] = entry
        else:
            self.hot_tier.pop(entry.instance_id, None)
        return entry

    def remove(self, instance_id: UUID, revision: int) -> Entry | None:
        """Forget an instance, but not that it is gone: a late message must not bring it back."""
        self._gone.pop(instance_id, None)
        self._gone[instance_id] = revision
        if len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        self.hot_tier.pop(instance_id, None)
        self.warm.pop(instance_id, None)
        self.hot.pop(instance_id, None)
        return self._entries.pop(instance_id, None)

    def set_snapshot(self, entry: Entry, snapshot: OrchestratorSnapshot | None) -> None:
        entry.snapshot = snapshot
        self._sort_in(entry)

    def set_current(self, entry: Entry, generation: Generation | None) -> Generation | None:
        """Put a build in place; the one it replaces, not yet retired."""
        replaced, entry.current = entry.current, generation
        self._sort_in(entry)
        return replaced

    def _sort_in(self, entry: Entry) -> None:
        if not self.holds(entry):
            return
        for name, subset in (("hot", self.hot), ("warm", self.warm)):
            if entry.residency == name:
                subset[entry.instance_id] = entry
            else:
                subset.pop(entry.instance_id, None)
