"""Where I am logged in, and what a stolen token is good for."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from control_plane.wiring import Resources
from shared.ids import new_id
from shared.security.sessions import SessionStore
from tests.fakes.clock import ManualClock
from tests.integration.control_plane.callers import PASSWORD, Caller, World


async def test_my_sessions_are_listed_with_the_latest_first_and_end_one_by_one(
    world: World, http: httpx.AsyncClient
) -> None:
    caller = await world.user()
    body = {"username": caller.username, "password": PASSWORD}
    await http.post("/api/auth/login", json=body, headers={"User-Agent": "a phone"})

    phone, here = (await caller.get("/api/me/sessions")).json()["items"]
    assert (phone["user_agent"], phone["is_current"], here["is_current"]) == ("a phone", False, True)
    pages = (await caller.get("/api/me/sessions?limit=1")).json()
    assert pages["items"] == [phone]
    assert (await caller.get(f"/api/me/sessions?cursor={pages['next_cursor']}")).json()["items"] == [here]

    assert (await caller.delete(f"/api/me/sessions/{phone['id']}")).status_code == 204
    assert (await caller.get("/api/me/sessions")).json()["items"] == [here]
    assert (await caller.delete(f"/api/me/sessions/{here['id']}")).status_code == 204
    assert (await caller.get("/api/me")).status_code == 401


async def test_sessions_of_others_cannot_be_seen_or_ended(world: World) -> None:
    mine, theirs = await world.user(), await world.user()
    (session,) = (await theirs.get("/api/me/sessions")).json()["items"]

    for session_id in (session["id"], "01JZZZZZZZZZZZZZZZZZZZZZZZ", "nonsense"):
        assert (await mine.delete(f"/api/me/sessions/{session_id}")).status_code == 404
    assert len((await mine.get("/api/me/sessions")).json()["items"]) == 1
    assert (await theirs.get("/api/me")).status_code == 200


async def test_an_administrator_sees_and_ends_the_sessions_of_a_user(world: World, root: Caller) -> None:
    caller = await world.user()
    path = f"/api/admin/users/{caller.user_id}/sessions"

    assert len((await root.get(path)).json()["items"]) == 1
    assert (await root.delete(path)).status_code == 204

    assert (await caller.get("/api/me")).status_code == 401
    assert (await root.get(path)).json()["items"] == []


@pytest.fixture
def clock() -> ManualClock:
    """Starts now: tokens are checked against the real time."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def store(resources: Resources, clock: ManualClock) -> SessionStore:
    """The application's own store, on a clock that moves."""
    resources.sessions = SessionStore(resources.redis, clock)
    return resources.sessions


async def refreshed(http: httpx.AsyncClient, token: str) -> httpx.Response:
    return await http.post("/api/auth/refresh", headers={"Authorization": f"Bearer {token}"})


async def is_alive(http: httpx.AsyncClient, token: str) -> bool:
    return (await http.get("/api/me", headers={"Authorization": f"Bearer {token}"})).status_code == 200


async def test_a_token_that_comes_again_after_it_was_exchanged_ends_what_came_of_it(
    world: World, http: httpx.AsyncClient, store: SessionStore, clock: ManualClock
) -> None:
    caller = await world.user()
    elsewhere = await world.log_in(caller.username)
    stolen = caller.token
    thiefs = (await refreshed(http, stolen)).json()["token"]
    thiefs = (await refreshed(http, thiefs)).json()["token"]

    clock.advance(60)
    assert (await refreshed(http, stolen)).status_code == 401

    assert not await is_alive(http, thiefs)
    assert (await refreshed(http, thiefs)).status_code == 401
    # Another login of the same user has nothing to do with it.
    assert await is_alive(http, elsewhere.token)


async def test_two_tabs_that_refresh_at_once_do_not_log_each_other_out(
    world: World, http: httpx.AsyncClient, store: SessionStore, clock: ManualClock
) -> None:
    caller = await world.user()
    fresh = (await refreshed(http, caller.token)).json()["token"]

    clock.advance(2)
    assert (await refreshed(http, caller.token)).status_code == 401

    assert await is_alive(http, fresh)


async def test_a_token_that_was_logged_out_ends_nothing_else(
    world: World, http: httpx.AsyncClient, store: SessionStore, clock: ManualClock
) -> None:
    caller = await world.user()
    elsewhere = await world.log_in(caller.username)
    await caller.delete("/api/auth/logout")

    clock.advance(60)
    assert (await refreshed(http, caller.token)).status_code == 401
    assert (await refreshed(http, "nonsense")).status_code == 401

    assert await is_alive(http, elsewhere.token)


async def test_what_is_remembered_of_an_exchanged_token_goes_with_it(resources: Resources, clock: ManualClock) -> None:
    store = SessionStore(resources.redis, clock)
    old = await store.start(new_id(), timedelta(minutes=5))
    clock.advance(60)
    await store.rotate(old, timedelta(minutes=5))

    assert 230 <= await resources.redis.ttl(f"session_spent:{old.session_id}") <= 240
