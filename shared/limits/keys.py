"""Where the limits are in Redis. What is counted of an organization carries its id."""

from datetime import datetime
from functools import lru_cache
from uuid import UUID

TIERS_GENERATION = "limits_generation:tiers"


@lru_cache(maxsize=4096)
def of_request(org_id: UUID | None, kind: str, caller: str) -> tuple[str, ...]:
    """All that a request is decided by, but for what is counted by the month."""
    return (
        limits_key(org_id),
        TIERS_GENERATION,
        org_generation(org_id),
        bucket(org_id, kind),
        bucket(org_id, kind, caller),
        bucket(None, "api", caller),
        runs(org_id),
        reserved(org_id),
    )


def limits_key(org_id: UUID | None) -> str:
    return f"limits:{org_id or '-'}"


def org_generation(org_id: UUID | None) -> str:
    return f"limits_generation:org:{org_id or '-'}"


def bucket(org_id: UUID | None, kind: str, caller: str = "") -> str:
    """A rate of a whole organization, or of one caller in it; without one, of the caller everywhere else."""
    return f"limit:{org_id or '-'}:{kind}" + (f":{caller}" if caller else "")


def runs(org_id: UUID | None) -> str:
    """Sorted set: the runs that are going on, by the time until which their worker vouches for them."""
    return f"limit:{org_id or '-'}:runs"


def reserved(org_id: UUID | None) -> str:
    """Hash: what each of those runs has set aside, the sums, and what a run uses on average."""
    return f"limit:{org_id or '-'}:reserved"


def spent(org_id: UUID | None, now: datetime) -> str:
    """Hash: what was used in a month and on its days."""
    return f"limit:{org_id or '-'}:spent:{now.year:04}{now.month:02}"


def settled(org_id: UUID, run_id: UUID) -> str:
    """There once the run was settled, so that this happens once."""
    return f"limit:{org_id}:settled:{run_id}"
