"""What every caller gets from every route, as the permission table says it must be."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from shared.security.permissions import Permission

OPEN: Final = "open"
"""Not refused for who asks: whatever else is wrong with the request may be answered."""

Expected = Literal["open", 401, 403, 404]


class Who(msgspec.Struct, frozen=True):
    """A kind of caller: what it holds in the organization asked about, None for no place there, and in the system."""

    name: str
    has_session: bool = True
    is_known: bool = True
    here: frozenset[Permission] | None = None
    in_system: frozenset[Permission] = frozenset()


class Route(msgspec.Struct, frozen=True):
    """`rule` is a permission, or how the route decides otherwise."""

    method: str
    path: str
    rule: Permission | Literal["public", "signed in", "session", "workers"]

    @property
    def is_about_an_organization(self) -> bool:
        return "{org_id}" in self.path


class Cell(msgspec.Struct, frozen=True):
    route: Route
    who: Who
    expected: Expected
    status: int

    @property
    def is_right(self) -> bool:
        if self.expected == OPEN:
            return self.status not in (401, 403) and self.status != 500
        return self.status == self.expected


def expected(route: Route, who: Who) -> Expected:
    """The one statement of who may do what that the answers are held against."""
    if route.rule == "public":
        return OPEN
    if route.rule == "workers" or not who.is_known:
        return 401
    if route.rule == "signed in":
        return OPEN
    if route.rule == "session":
        return OPEN if who.has_session else 401
    if not route.is_about_an_organization:
        return OPEN if route.rule in who.in_system else 403
    held = (who.here or frozenset()) | who.in_system
    if route.rule in held:
        return OPEN
    return 404 if who.here is None else 403


def rendered(title: str, cells: Iterable[Cell]) -> str:
    """One line for each route, one column for each caller; a deviation shows both statuses."""
    by_route: dict[Route, list[Cell]] = {}
    for cell in cells:
        by_route.setdefault(cell.route, []).append(cell)
    every = [cell for row in by_route.values() for cell in row]
    names = [cell.who.name for cell in next(iter(by_route.values()))]
    lines = [f"\n{title}", f"{'':<86}" + " ".join(f"{name:>14}" for name in names)]
    for route, row in sorted(by_route.items(), key=lambda item: (item[0].path, item[0].method)):
        shown = [str(c.expected) if c.is_right else f"{c.expected}!{c.status}" for c in row]
        lines.append(f"{route.method:<7}{route.path:<79}" + " ".join(f"{text:>14}" for text in shown))
    wrong = sum(not cell.is_right for cell in every)
    lines.append(f"{len(by_route)} routes x {len(names)} callers = {len(every)} answers, {wrong} deviations")
    return "\n".join(lines)
