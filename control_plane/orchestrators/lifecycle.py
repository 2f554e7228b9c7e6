"""Load, unload, reload: an operator's intent, stored, which workers follow."""

from uuid import UUID

from control_plane.database.revisions import require_match
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.saving import DefinitionSaver, Fact
from control_plane.orchestrators.schemas import OperationView
from control_plane.orchestrators.tables import Orchestrator
from shared.errors import Conflict
from shared.events import OrchestratorLoad, OrchestratorReload, OrchestratorUnload
from shared.snapshots import Tier


class LifecycleService:
    """Every call is a new revision, so that each worker acts on it even when the event is lost.

    All raise NotFound, OrchestratorDeactivated, StaleRevision.
    """

    def __init__(self, *, orchestrators: OrchestratorRepository, saver: DefinitionSaver) -> None:
        self._orchestrators = orchestrators
        self._saver = saver

    async def load(self, org_id: UUID, instance_id: UUID, tier: Tier | None, *, if_match: str | None) -> OperationView:
        """Serve again, from memory at once when the tier is hot. Raises Conflict for a suspended one."""
        row = await self._opened(org_id, instance_id, if_match)
        _require_active(row)
        row.is_unloaded = False
        row.tier = tier or row.tier
        return await self._accepted(row, OrchestratorLoad)

    async def unload(self, org_id: UUID, instance_id: UUID, *, if_match: str | None) -> OperationView:
        """Answer 503 until it is loaded again."""
        row = await self._opened(org_id, instance_id, if_match)
        row.is_unloaded = True
        return await self._accepted(row, OrchestratorUnload)

    async def reload(self, org_id: UUID, instance_id: UUID, *, if_match: str | None) -> OperationView:
        """Build anew beside the running one. Raises Conflict for a suspended or unloaded one."""
        row = await self._opened(org_id, instance_id, if_match)
        _require_active(row)
        if row.is_unloaded:
            raise Conflict("the orchestrator is unloaded; load it instead")
        return await self._accepted(row, OrchestratorReload)

    async def _opened(self, org_id: UUID, instance_id: UUID, if_match: str | None) -> Orchestrator:
        row = await self._orchestrators.get_for_change(org_id, instance_id)
        require_match(if_match, row.revision)
        return row

    async def _accepted(self, row: Orchestrator, fact: Fact) -> OperationView:
        operation_id = await self._saver.bump(row, fact)
        return OperationView(row.id, row.revision, operation_id)


def _require_active(row: Orchestrator) -> None:
    if row.status != "active":
        raise Conflict("the orchestrator is suspended; activate it first")
