"""What a worker vouches for, and the names that it has in Redis. What the keys hold: `run_locks`."""

from typing import NamedTuple, Protocol, Self
from uuid import UUID

import msgspec

CLAIMS = "run_claims"


class Claim(Protocol):
    """What is vouched for: a run, or the end of one that is not stored yet."""

    @property
    def org_id(self) -> UUID: ...
    @property
    def conversation_id(self) -> UUID: ...
    @property
    def run_id(self) -> UUID: ...
    @property
    def epoch(self) -> int: ...


class Words(NamedTuple):
    """A claim as Redis reads it: the keys of its lock and its record, what the lock holds, and what `CLAIMS` does."""

    lock: bytes
    record: bytes
    run_id: bytes
    member: bytes
    epoch: bytes

    @classmethod
    def of(cls, claim: Claim) -> Self:
        run_id, lock = str(claim.run_id), f"run_lock:{claim.org_id}:{claim.conversation_id}"
        member = f"{claim.org_id}:{run_id}"
        return cls(lock.encode(), f"run:{run_id}".encode(), run_id.encode(), member.encode(), b"%d" % claim.epoch)


class Held:
    """A lock that was taken and is not given back yet: its run is going on, or about to.

    Its words are put together once: with thousands of runs most of a renewal would be that.
    """

    __slots__ = ("conversation_id", "epoch", "org_id", "run_id", "words")

    def __init__(self, org_id: UUID, conversation_id: UUID, run_id: UUID, epoch: int = 1) -> None:
        self.org_id = org_id
        self.conversation_id = conversation_id
        self.run_id = run_id
        self.epoch = epoch
        self.words = Words.of(self)


class LostRun(msgspec.Struct, frozen=True):
    """A run whose worker vouches for it no longer, and which is ours now, in the epoch that began with that.
    `is_refused`: its caller was told that it did not begin."""

    org_id: UUID
    run_id: UUID
    epoch: int
    is_refused: bool = False


def record_key(run_id: UUID) -> str:
    return f"run:{run_id}"


def member_of(org_id: UUID, run_id: UUID) -> str:
    return f"{org_id}:{run_id}"
