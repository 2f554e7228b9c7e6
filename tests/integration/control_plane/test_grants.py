"""The cache of grants never outlives the truth."""

from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.clock import SystemClock
from shared.ids import new_id
from shared.security.grants import Grant, GrantCache, GrantInvalidator
from shared.security.sessions import SessionStore


class Truth:
    """Loads grants, counts how often, and can be changed in the middle of a load."""

    def __init__(self) -> None:
        self.is_admin = True
        self.loads = 0
        self.meanwhile: GrantInvalidator | None = None

    async def load(self, user_id: UUID, org_id: UUID | None) -> Grant:
        self.loads += 1
        role = "org_admin" if self.is_admin else "user"
        if self.meanwhile is not None:
            # The change commits after this load has read the old state.
            self.is_admin = False
            await self.meanwhile.user_changed(user_id)
            self.meanwhile = None
        return Grant(user_id, org_id, "u", False, True, role, True, "active")  # type: ignore[arg-type]  # one of the roles


async def test_a_grant_is_loaded_once_until_something_changes(redis: Redis) -> None:
    truth = Truth()
    cache, invalidator = GrantCache(redis, truth.load), GrantInvalidator(redis)
    user_id, org_id = new_id(), new_id()

    for _ in range(3):
        assert (await cache.get(user_id, org_id)).role == "org_admin"
    assert truth.loads == 1

    await invalidator.user_changed(user_id)
    await cache.get(user_id, org_id)
    await invalidator.organization_changed(org_id)
    await cache.get(user_id, org_id)
    assert truth.loads == 3

    await invalidator.user_changed(new_id())
    await cache.get(user_id, org_id)
    assert truth.loads == 3


async def test_a_grant_read_while_it_changes_is_not_believed_later(redis: Redis) -> None:
    truth = Truth()
    truth.meanwhile = GrantInvalidator(redis)
    cache = GrantCache(redis, truth.load)
    user_id, org_id = new_id(), new_id()

    await cache.get(user_id, org_id)

    assert (await cache.get(user_id, org_id)).role == "user"


async def test_a_session_ends_by_itself(redis: Redis) -> None:
    store = SessionStore(redis, SystemClock())
    user_id = new_id()

    session = await store.start(user_id, timedelta(minutes=5), user_agent="x" * 1000)

    assert 290 <= await redis.ttl(f"session:{session.session_id}") <= 300
    assert [s.session_id for s in await store.of_user(user_id)] == [session.session_id]
    assert len(session.user_agent) == 200
    assert [await store.end(session.session_id, user_id), await store.end(session.session_id, user_id)] == [True, False]
    assert await store.of_user(user_id) == []
