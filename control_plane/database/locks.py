"""One writer at a time per organization for what shapes instances: orchestrators, llm_configs, plugins."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import run
from control_plane.database.statements import Question, Statement

_EVERYTHING = 0x0CADE4D1
_ORGANIZATIONS = 0x0CADE4D2
_LOCK_ALL = Statement(text("SELECT pg_advisory_xact_lock(:everything)").bindparams(everything=_EVERYTHING))
_LOCK_ONE = Statement(
    text(
        "SELECT pg_advisory_xact_lock_shared(:everything), pg_advisory_xact_lock(:organizations, hashtext(:org_id))"
    ).bindparams(everything=_EVERYTHING, organizations=_ORGANIZATIONS)
)


async def lock_definitions(session: AsyncSession, org_id: UUID | None) -> None:
    """Wait for every other change of the organization's definitions and keep them out until the transaction ends.

    An instance's `config_hash` is computed from rows of several features. Without this lock an instance could adopt an
    llm_config while that is being changed, and neither transaction would see the other. None stands for the system
    catalogue, which all organizations use. Take it before any row lock and before `next_revision`.
    """
    await run(session, definitions_lock(org_id))


def definitions_lock(org_id: UUID | None) -> Question:
    """The same, to be asked together with what is read under it: each statement sees what was there when it began."""
    return _LOCK_ALL() if org_id is None else _LOCK_ONE(org_id=str(org_id))
