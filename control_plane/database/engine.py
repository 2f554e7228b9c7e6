"""The connection pool."""

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from control_plane.database.connection import BoundedConnection

POOL_SIZE = 16
CONNECT_SECONDS = 3


def create_engine(postgres_url: str) -> AsyncEngine:
    """An engine on psycopg 3 for a plain `postgresql://` URL. Connections are tested before use, so that a restarted
    server costs no failed request, and give up on a server that hangs.
    """
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    return create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_pre_ping=True,
        pool_timeout=5,
        # Errors are logged, and a statement's values hold password hashes, sealed keys and what people wrote.
        hide_parameters=True,
        connect_args={
            "async_creator_fn": BoundedConnection.connect,
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "cadence-control-plane",
        },
    )


def session_factory(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)
