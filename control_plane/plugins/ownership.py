"""Whose a pid may be."""

from uuid import UUID

from control_plane.organizations.service import OrganizationService
from control_plane.plugins.repository import PluginRepository
from shared.errors import FieldError
from shared.packages.inspection.preparation import refused
from shared.packages.inspection.rules import domain_problems


async def check_owner(
    owner: UUID | None, pid: str, organizations: OrganizationService, plugins: PluginRepository
) -> None:
    """An organization keeps to its domain and off the system's pids; the system is free. Raises PluginRefused."""
    if owner is None:
        return
    organization = await organizations.get(owner)
    problems = list(domain_problems(pid, organization.domain))
    if await plugins.is_system_pid(pid):
        problems.append(FieldError("pid", "taken", f"{pid} is a plugin of the system catalogue"))
    if problems:
        raise refused(tuple(problems))
