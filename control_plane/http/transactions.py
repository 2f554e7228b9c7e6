"""One transaction per request."""

from collections.abc import AsyncIterator
from functools import partial

from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.recording import entry_of_changes
from control_plane.database.commits import commit, is_over, last_of_all
from control_plane.http.bodies import AnyRequest
from control_plane.wiring import Resources

_IS_FINISHED = "is_finished"


async def provide_session(request: AnyRequest, resources: NamedDependency[Resources]) -> AsyncIterator[AsyncSession]:
    """The request's transaction, committed before the answer is sent and rolled back on any error.

    PostgreSQL shows it the rows of the organization in the path, and no others; those of all to the routes without one.

    Litestar leaves `yield` dependencies before it sends the response, so a commit that fails is an error answer. No
    connection is taken before the first statement.
    """
    async with resources.database(request.path_params.get("org_id")) as session:
        last_of_all(session, partial(entry_of_changes, request, session))
        yield session
        if not session.info.get(_IS_FINISHED):
            await finish(request, session)


async def finish(request: AnyRequest, session: AsyncSession) -> None:
    """Commit before the handler is done, for one that then waits for others to see it. It holds no connection while it
    waits, and writes nothing more.
    """
    if not is_over(session):
        await commit(session, *await entry_of_changes(request, session))
    session.info[_IS_FINISHED] = True
