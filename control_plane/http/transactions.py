"""One transaction per request."""

from collections.abc import AsyncIterator

from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.commits import commit
from control_plane.wiring import Resources


async def provide_session(resources: NamedDependency[Resources]) -> AsyncIterator[AsyncSession]:
    """The request's transaction, committed before the answer is sent and rolled back on any error.

    Litestar leaves `yield` dependencies before it sends the response, so a commit that fails is an error answer. No
    connection is taken before the first statement.
    """
    async with resources.database() as session:
        yield session
        await commit(session)
