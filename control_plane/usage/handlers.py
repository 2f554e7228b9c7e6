from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal, TypeVar, cast
from uuid import UUID

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import may
from control_plane.http.openapi import CSV, documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, page_of
from control_plane.usage.csv import csv_of
from control_plane.usage.repository import Dimension, Row, UsageFilter, UsageRepository
from control_plane.usage.schemas import CostView, UsageView
from control_plane.wiring import Resources
from shared.errors import FieldError, InvalidRequest
from shared.pricing import CURRENCY
from shared.security.permissions import Permission

DEFAULT_DAYS = 30
MAX_CSV_ROWS = 50_000

First = Annotated[date | None, QueryParameter(name="from", description="The first day (UTC); 30 days up to `to`.")]
Last = Annotated[date | None, QueryParameter(name="to", description="The last day (UTC), included; today.")]
GroupBy = Annotated[
    str,
    QueryParameter(
        name="group_by",
        pattern="^(total|(day|instance|model)(,(day|instance|model)){0,2})$",
        description="`day`, `instance`, `model` or several of them with commas between, or `total`.",
    ),
]
Format = Annotated[
    Literal["json", "csv"] | None,
    QueryParameter(name="format", description="`csv` has all rows in one answer; so has `Accept: text/csv`."),
]

V = TypeVar("V")


@get(
    "/usage",
    guards=[may(Permission.ORG_STATS_READ)],
    opt=documented(also=CSV),
    summary="What was used",
)
async def usage(
    request: AnyRequest,
    org_id: FromPath[UUID],
    session: NamedDependency[AsyncSession],
    resources: NamedDependency[Resources],
    first: First = None,
    last: Last = None,
    group_by: GroupBy = "day",
    output: Format = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[UsageView]]:
    """Turns and tokens, by day, instance or model. A run counts on the day it ended, shortly after it has."""
    wanted = _filter(first, last, group_by, resources)
    if _wants_csv(output, request.headers.get("accept", "")):
        return await _csv(session, org_id, wanted, UsageView.__struct_fields__, "usage")
    return await _page(session, org_id, wanted, limit, cursor, UsageView.of)


@get(
    "/cost",
    guards=[may(Permission.ORG_STATS_READ)],
    opt=documented(also=CSV),
    summary="What it cost",
)
async def cost(
    request: AnyRequest,
    org_id: FromPath[UUID],
    session: NamedDependency[AsyncSession],
    resources: NamedDependency[Resources],
    first: First = None,
    last: Last = None,
    group_by: GroupBy = "day",
    output: Format = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[CostView]]:
    """US dollars, by day, instance or model, by the prices that held when each run began."""
    wanted = _filter(first, last, group_by, resources)
    if _wants_csv(output, request.headers.get("accept", "")):
        return await _csv(session, org_id, wanted, CostView.__struct_fields__, "cost")
    return await _page(session, org_id, wanted, limit, cursor, CostView.of)


def _filter(first: date | None, last: date | None, group_by: str, resources: Resources) -> UsageFilter:
    last = last or resources.clock.now().date()
    if first is None:
        days = min(DEFAULT_DAYS - 1, (last - date.min).days)
        first = last - timedelta(days=days)
    if first > last:
        raise InvalidRequest(errors=(FieldError("from", "out_of_order", "after the last day"),))
    dimensions = [] if group_by == "total" else group_by.split(",")
    return UsageFilter(first, last, frozenset(cast("list[Dimension]", dimensions)))


def _wants_csv(output: str | None, accept: str) -> bool:
    if output is not None:
        return output == "csv"
    types = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "text/csv" in types and "application/json" not in types


async def _page(
    session: AsyncSession,
    org_id: UUID,
    wanted: UsageFilter,
    limit: int,
    cursor: str | None,
    show: Callable[[Row], V],
) -> Response[Page[V]]:
    rows = await UsageRepository(session).groups(org_id, wanted, after=_after(cursor, wanted), limit=limit)
    return Response(page_of(rows, limit, key=lambda row: [str(row[name]) for name in wanted.columns], show=show))


async def _csv(
    session: AsyncSession, org_id: UUID, wanted: UsageFilter, columns: Sequence[str], name: str
) -> Response[Any]:
    """All rows. Raises InvalidRequest when there are too many for one answer."""
    rows = await UsageRepository(session).groups(org_id, wanted, after=None, limit=MAX_CSV_ROWS)
    if len(rows) > MAX_CSV_ROWS:
        problem = f"more than {MAX_CSV_ROWS} rows; ask for fewer days or dimensions"
        raise InvalidRequest(errors=(FieldError("from", "too_many", problem),))
    file_name = f"{name}-{wanted.first}-{wanted.last}.csv"
    return Response(
        csv_of(columns, ({**row, "currency": CURRENCY} for row in rows)),
        media_type=CSV,
        headers={"Content-Disposition": f'attachment; filename="{file_name}"', "Vary": "Accept"},
    )


def _after(cursor: str | None, wanted: UsageFilter) -> list[str] | None:
    """Raises InvalidRequest for a cursor of another list."""
    after = decode_cursor(cursor, list[str])
    if after is None:
        return None
    try:
        for column, value in zip(wanted.columns, after, strict=True):
            _PARSERS.get(column, str)(value)
    except ValueError:
        raise InvalidRequest(
            "the cursor is not one of ours", errors=(FieldError("cursor", "invalid", "not a cursor of this list"),)
        ) from None
    return after


_PARSERS: dict[str, Callable[[str], object]] = {"day": date.fromisoformat, "instance_id": UUID}

router = Router("/api/orgs/{org_id:uuid}/stats", route_handlers=[usage, cost], tags=["stats"])
