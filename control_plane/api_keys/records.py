"""API keys outside of any request: what the check of a caller reads, and when keys were last used."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.api_keys.tables import APIKey
from control_plane.auth.grants import known_permissions
from shared.limits import micros
from shared.logging import get_logger
from shared.security.api_key_uses import TELL_SECONDS, APIKeyUses
from shared.security.api_keys import APIKeyRecord

log = get_logger(__name__)


async def load_api_key(engine: AsyncEngine, digest: str) -> APIKeyRecord | None:
    """The record of the key with this hash."""
    columns = (APIKey.id, APIKey.user_id, APIKey.org_id, APIKey.scopes, APIKey.expires_at)
    query = select(*columns, APIKey.budget_per_month, APIKey.budget_id).where(APIKey.digest == digest)
    async with engine.connect() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    scopes = tuple(sorted(known_permissions(frozenset(row.scopes))))
    budget = micros(row.budget_per_month)
    return APIKeyRecord(row.id, row.user_id, row.org_id, scopes, row.expires_at, budget, row.budget_id)


async def keep_api_key_uses(uses: APIKeyUses, engine: AsyncEngine) -> None:
    """Tell of this process's uses and store everybody's, every half minute, until cancelled."""
    while True:
        await asyncio.sleep(TELL_SECONDS)
        await uses.tell()
        try:
            await uses.move(partial(_store, engine))
        except (RedisError, SQLAlchemyError) as error:
            # They stay in Redis, for next time.
            log.warning("api_key_uses_not_stored", reason=type(error).__name__)


async def _store(engine: AsyncEngine, uses: Mapping[UUID, datetime]) -> None:
    """Several control planes may tell of the same key, in any order: the latest counts."""
    latest = func.greatest(APIKey.last_used_at, bindparam("used_at"))
    statement = (
        update(APIKey.__table__)  # type: ignore[arg-type]  # a plain table: no session is involved
        .where(APIKey.id == bindparam("key_id"))
        .values(last_used_at=latest, updated_at=APIKey.updated_at)
    )
    async with engine.connect() as connection:
        await connection.execute(statement, [{"key_id": key_id, "used_at": at} for key_id, at in uses.items()])
