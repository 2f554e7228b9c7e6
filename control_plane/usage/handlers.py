from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any, Literal, TypeVar, cast
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import may
from control_plane.http.handlers import get
from control_plane.http.openapi import CSV, documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, page_of
from control_plane.usage.csv import csv_of
from control_plane.usage.repository import Dimension, UsageFilter, UsageRepository
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

V = TypeVar("V", UsageView, CostView)


class UsageList:
    """The rows that a caller asks for."""

    def __init__(
        self, session: AsyncSession, org_id: UUID, wanted: UsageFilter, *, as_csv: bool, limit: int, cursor: str | None
    ) -> None:
        self._rows = UsageRepository(session)
        self._org_id = org_id
        self._wanted = wanted
        self._as_csv = as_csv
        self._limit = limit
        self._cursor = cursor

    async def shown(self, view: type[V], name: str) -> Response[Page[V]]:
        """A page, or everything as the file `name`. Raises InvalidRequest when that is too much for one answer."""
        return await self._csv(view, name) if self._as_csv else await self._page(view)

    async def _page(self, view: type[V]) -> Response[Page[V]]:
        after = _after(self._cursor, self._wanted)
        rows = await self._rows.groups(self._org_id, self._wanted, after=after, limit=self._limit)
        columns = self._wanted.columns
        return Response(page_of(rows, self._limit, key=lambda row: [str(row[name]) for name in columns], show=view.of))

    async def _csv(self, view: type[V], name: str) -> Response[Any]:
        rows = await self._rows.groups(self._org_id, self._wanted, after=None, limit=MAX_CSV_ROWS)
        if len(rows) > MAX_CSV_ROWS:
            problem = f"more than {MAX_CSV_ROWS} rows; ask for fewer days or dimensions"
            raise InvalidRequest(errors=(FieldError("from", "too_many", problem),))
        file_name = f"{name}-{self._wanted.first}-{self._wanted.last}.csv"
        return Response(
            csv_of(view.__struct_fields__, ({**row, "currency": CURRENCY} for row in rows)),
            media_type=CSV,
            headers={"Content-Disposition": f'attachment; filename="{file_name}"', "Vary": "Accept"},
        )


def provide_rows(
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
) -> UsageList:
    wanted = _filter(first, last, group_by, resources)
    as_csv = _wants_csv(output, request.headers.get("accept", ""))
    return UsageList(session, org_id, wanted, as_csv=as_csv, limit=limit, cursor=cursor)


@get("/usage", guards=[may(Permission.ORG_STATS_READ)], opt=documented(also=CSV), summary="What was used")
async def usage(rows: NamedDependency[UsageList]) -> Response[Page[UsageView]]:
    """Turns and tokens, by day, instance or model. A run counts on the day it ended, shortly after it has."""
    return await rows.shown(UsageView, "usage")


@get("/cost", guards=[may(Permission.ORG_STATS_READ)], opt=documented(also=CSV), summary="What it cost")
async def cost(rows: NamedDependency[UsageList]) -> Response[Page[CostView]]:
    """US dollars, by day, instance or model, by the prices that held when each run began."""
    return await rows.shown(CostView, "cost")


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

router = Router(
    "/api/orgs/{org_id:uuid}/stats",
    route_handlers=[usage, cost],
    dependencies={"rows": Provide(provide_rows, sync_to_thread=False)},
    tags=["stats"],
)
