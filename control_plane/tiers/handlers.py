from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import may
from control_plane.http.handlers import get, patch
from control_plane.http.paging import Page, whole
from control_plane.tiers.schemas import TierPatch, TierView
from control_plane.tiers.service import TierService
from shared.security.permissions import Permission


@get("/", guards=[may(Permission.SYSTEM_TIERS_READ)], summary="List the tiers and what they allow")
async def list_tiers(tiers: NamedDependency[TierService]) -> Page[TierView]:
    return whole([TierView.of(tier) for tier in await tiers.all()])


@get("/{name:str}", guards=[may(Permission.SYSTEM_TIERS_READ)], summary="Show a tier")
async def get_tier(name: FromPath[str], tiers: NamedDependency[TierService]) -> Response[TierView]:
    tier = await tiers.get(name)
    return tagged(TierView.of(tier), tier.revision)


@patch("/{name:str}", guards=[may(Permission.SYSTEM_TIERS_WRITE)], summary="Change what a tier allows")
async def change_tier(
    name: FromPath[str],
    data: JSONBody[TierPatch],
    tiers: NamedDependency[TierService],
    if_match: IfMatch = None,
) -> Response[TierView]:
    """Counts at once. Nobody loses what they have already: there is only no more of it."""
    tier = await tiers.change(name, data, if_match=if_match)
    return tagged(TierView.of(tier), tier.revision)


router = Router("/api/admin/tiers", route_handlers=[list_tiers, get_tier, change_tier], tags=["tiers"])
