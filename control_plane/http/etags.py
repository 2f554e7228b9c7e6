"""Optimistic locking: an `ETag` is a resource's quoted revision, `If-Match` names the one a change is meant for."""

from typing import Annotated, TypeVar

from litestar import Response
from litestar.params import HeaderParameter

from control_plane.database.revisions import etag, require_match

__all__ = ["IfMatch", "etag", "require_match", "tagged"]

T = TypeVar("T")

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match", description="The ETag the change is meant for; 412 when it is not the current one."
    ),
]


def tagged(body: T, revision: int, *, status_code: int = 200) -> Response[T]:
    """An answer that carries the revision of what it shows."""
    return Response(body, status_code=status_code, headers={"ETag": etag(revision)})
