"""Central points as this worker knows them from the change feed: which instance answers for which."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from shared.errors import NotFound, StoreUnavailable
from shared.snapshots import CentralPointChange

NO_SUCH_POINT = "no such central point"


class CentralPoints:
    """In memory only, some 300 bytes each; a request that finds what it looks for asks nobody."""

    def __init__(self) -> None:
        self._points: dict[UUID, CentralPointChange] = {}

    def apply(self, change: CentralPointChange) -> None:
        """Take in a change. One that is not newer than what is known changes nothing.

        Deleted ones stay as such: a late page must not bring them back.
        """
        known = self._points.get(change.central_id)
        if known is None or change.revision > known.revision:
            self._points[change.central_id] = change

    def find(self, org_id: UUID, central_id: UUID) -> CentralPointChange | None:
        """A living one of this organization, as far as it is known here."""
        point = self._points.get(central_id)
        return None if point is None or point.is_deleted or point.org_id != org_id else point


class PointLookup:
    """`look` reads the change feed anew and tells whether the control plane answered."""

    def __init__(self, points: CentralPoints, look: Callable[[], Awaitable[bool]]) -> None:
        self._points = points
        self._look = look

    async def get(self, org_id: UUID, central_id: UUID) -> CentralPointChange:
        """A point that may be younger than the last look at the feed.

        One that is another organization's is looked for like one that nobody has, and as long. Raises NotFound, and
        StoreUnavailable when the control plane does not answer.
        """
        if found := self._points.find(org_id, central_id):
            return found
        has_looked = await self._look()
        if found := self._points.find(org_id, central_id):
            return found
        if not has_looked:
            raise StoreUnavailable("a central point that is not known here yet cannot be asked for")
        raise NotFound(NO_SUCH_POINT)
