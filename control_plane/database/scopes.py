"""Whose rows a transaction sees.

The application's login owns nothing and sees nothing. Each transaction becomes one of two roles that migration 0005
makes: `cadence_tenant`, to which PostgreSQL's row-level security shows the rows of the one organization in
`app.org_id`, or `cadence_platform`, which sees those of all (decision 0027).
"""

from uuid import UUID

import msgspec

from control_plane.database.statements import Question

TENANT_ROLE = "cadence_tenant"
PLATFORM_ROLE = "cadence_platform"
SCOPE = "scope"
"""The execution option of an engine that holds a `Scope`."""

_TAKE = b"SELECT set_config('role', $1, true), set_config('app.org_id', $2, true)"


class Scope(msgspec.Struct, frozen=True):
    role: str
    org_id: UUID | None = None

    def command(self, *, is_local: bool) -> bytes:
        """The statements that take the scope: until the transaction ends, or for as long as the connection lives."""
        local = "LOCAL " if is_local else ""
        # Both parts are ours: a constant and the text of a UUID.
        return f"SET {local}ROLE {self.role}; SET {local}app.org_id = '{self.org_id or ''}'".encode()

    def question(self) -> Question:
        """The same, until the transaction ends, to be asked together with what it is taken for."""
        return Question(_TAKE, (self.role, str(self.org_id or "")))


EVERY_ORGANIZATION = Scope(PLATFORM_ROLE)
NO_ORGANIZATION = Scope(TENANT_ROLE)
"""What a connection gets that was given no scope."""


def scope_of(org_id: UUID | None) -> Scope:
    """One organization's, or for None that of the platform, whose work is not about one of them."""
    return EVERY_ORGANIZATION if org_id is None else Scope(TENANT_ROLE, org_id)
