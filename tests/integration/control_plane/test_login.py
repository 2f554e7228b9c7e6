"""Logging in, staying in, getting out."""

import asyncio
import base64
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from control_plane.auth import throttle
from control_plane.auth.passwords import Passwords
from control_plane.auth.throttle import PER_ADDRESS, PER_USER
from control_plane.users.tables import User
from control_plane.wiring import Resources
from shared.errors import NotAuthenticated, RateLimited
from shared.ids import new_id
from shared.security.sessions import Session
from tests.integration.control_plane.callers import PASSWORD, Caller, World


async def attempt(http: httpx.AsyncClient, username: str, password: str, **request: object) -> httpx.Response:
    body = {"username": username, "password": password}
    return await http.post("/api/auth/login", json=body, **request)  # type: ignore[arg-type]


async def test_a_login_gives_a_token_that_holds_only_who_and_until_when(world: World, http: httpx.AsyncClient) -> None:
    caller = await world.user()

    answer = await attempt(http, caller.username, PASSWORD)

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    payload = answer.json()["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert set(claims) == {"sub", "jti", "iat", "exp"}
    assert claims["sub"] == str(caller.user_id)
    assert datetime.fromisoformat(answer.json()["expires_at"]) == pytest.approx(
        datetime.now(UTC) + timedelta(minutes=30), abs=timedelta(minutes=1)
    )


async def test_an_unknown_user_and_a_wrong_password_cannot_be_told_apart(world: World, http: httpx.AsyncClient) -> None:
    await world.user(username="somebody")

    wrong = await attempt(http, "somebody", "not the password")
    unknown = await attempt(http, "nobody", "not the password")

    assert wrong.status_code == unknown.status_code == 401
    same = ("type", "title", "status", "code", "detail", "instance")
    assert {key: wrong.json()[key] for key in same} == {key: unknown.json()[key] for key in same}
    assert set(wrong.headers) == set(unknown.headers)
    assert wrong.json()["code"] == "AU-0002"


async def test_an_unknown_user_costs_a_real_hash(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    original = type(resources.passwords)._verify

    def watched(self: object, password: str, encoded: str) -> bool:
        verified.append(encoded)
        return original(resources.passwords, password, encoded)

    monkeypatch.setattr(type(resources.passwords), "_verify", watched)

    assert not await resources.passwords.matches("anything", None)

    assert len(verified) == 1
    assert verified[0].startswith("$argon2id$")


async def test_usernames_are_the_same_in_any_case(world: World, http: httpx.AsyncClient) -> None:
    await world.user(username="Alice")

    assert (await attempt(http, "aLICE", PASSWORD)).status_code == 200


async def test_guessing_is_stopped_for_known_and_unknown_names_alike(world: World, http: httpx.AsyncClient) -> None:
    await world.user(username="victim")
    for name in ("victim", "nobody"):
        guesses = await asyncio.gather(*(attempt(http, name, f"guess {n}") for n in range(PER_USER + 5)))

        assert sorted(guess.status_code for guess in guesses) == [401] * PER_USER + [429] * 5

    stopped = await attempt(http, "victim", PASSWORD)
    assert stopped.status_code == 429
    assert 0 < int(stopped.headers["retry-after"]) <= 300
    assert stopped.headers["ratelimit-limit"] == str(PER_USER)
    assert stopped.headers["ratelimit-remaining"] == "0"
    assert stopped.json()["code"] == "RL-0001"


async def test_right_passwords_are_never_throttled(world: World, http: httpx.AsyncClient) -> None:
    await world.user(username="busy")

    for _ in range(PER_USER + 2):
        assert (await attempt(http, "busy", PASSWORD)).status_code == 200


async def test_attempts_that_never_came_to_an_end_are_forgotten_soon(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "UNDECIDED_SECONDS", 3)
    async with AsyncExitStack() as undecided:
        for _ in range(PER_USER):
            await undecided.enter_async_context(resources.throttle.attempt("unlucky", "192.0.2.7"))
        with pytest.raises(RateLimited):
            await tried(resources, "unlucky", "192.0.2.7")
        async with asyncio.timeout(10):
            while await is_limited(resources, "unlucky"):
                await asyncio.sleep(0.05)


async def test_one_address_cannot_try_many_names(world: World, resources: Resources) -> None:
    for n in range(PER_ADDRESS):
        async with resources.throttle.attempt(f"name {n}", "192.0.2.7") as guess:
            await guess.failed()

    with pytest.raises(RateLimited, match="too many failed attempts"):
        await tried(resources, "one more", "192.0.2.7")
    await tried(resources, "one more", "192.0.2.8")


async def is_limited(resources: Resources, username: str) -> bool:
    try:
        await tried(resources, username, "192.0.2.7")
    except RateLimited:
        return True
    return False


async def tried(resources: Resources, username: str, address: str) -> None:
    async with resources.throttle.attempt(username, address):
        pass


async def test_a_refresh_ends_the_old_session(world: World, http: httpx.AsyncClient) -> None:
    caller = await world.user()

    fresh = await caller.post("/api/auth/refresh")

    assert fresh.status_code == 200
    assert fresh.headers["cache-control"] == "no-store"
    assert (await caller.get("/api/me")).status_code == 401
    caller.token = fresh.json()["token"]
    assert (await caller.get("/api/me")).json()["username"] == caller.username


async def test_only_one_of_two_refreshes_at_once_gets_a_session(world: World) -> None:
    caller = await world.user()

    answers = await asyncio.gather(*(caller.post("/api/auth/refresh") for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_a_refresh_on_its_way_survives_no_end_of_all_sessions(world: World, resources: Resources) -> None:
    caller = await world.user()
    (before,) = await resources.sessions.of_user(caller.user_id)

    assert await resources.sessions.end_all(caller.user_id) == 1
    with pytest.raises(NotAuthenticated):
        await resources.sessions.rotate(before, timedelta(minutes=5))

    assert await resources.sessions.of_user(caller.user_id) == []


async def test_a_login_with_the_old_password_does_not_outlive_its_change(
    world: World, http: httpx.AsyncClient, resources: Resources, root: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await world.user()
    start = resources.sessions.start

    async def change_first(user_id: UUID, *args: Any, **more: Any) -> Session:
        monkeypatch.undo()
        changed = await root.patch(f"/api/admin/users/{user_id}", {"password": "another long password"})
        assert changed.status_code == 200, changed.text
        return await start(user_id, *args, **more)

    monkeypatch.setattr(resources.sessions, "start", change_first)
    late = await attempt(http, caller.username, PASSWORD)

    assert late.status_code == 401
    assert await resources.sessions.of_user(caller.user_id) == []


async def test_a_logged_out_session_is_dead_on_the_next_request(world: World) -> None:
    caller = await world.user()

    assert (await caller.delete("/api/auth/logout")).status_code == 204

    refused = await caller.get("/api/me")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["code"] == "AU-0001"


async def test_revoking_all_sessions_ends_every_one_of_mine_and_nobody_elses(world: World) -> None:
    here, other = await world.user(), await world.user()
    there = await world.log_in(here.username)

    assert (await here.delete("/api/auth/sessions")).status_code == 204

    assert (await here.get("/api/me")).status_code == 401
    assert (await there.get("/api/me")).status_code == 401
    assert (await other.get("/api/me")).status_code == 200


async def test_tokens_that_are_not_ours_or_no_longer_valid_are_refused(
    world: World, http: httpx.AsyncClient, resources: Resources
) -> None:
    caller = await world.user()
    now = datetime.now(UTC)
    session = await resources.sessions.start(caller.user_id, timedelta(minutes=5))
    expired = resources.tokens.issue(
        caller.user_id, session.session_id, issued_at=now - timedelta(hours=2), expires_at=now - timedelta(hours=1)
    )
    of_another = resources.tokens.issue(
        new_id(), session.session_id, issued_at=now, expires_at=now + timedelta(minutes=5)
    )
    head, payload, signature = caller.token.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    odd = base64.urlsafe_b64encode(b'{"alg":"HS256","crit":1}').rstrip(b"=").decode()
    forged = [
        f"{odd}.{payload}.{signature}",
        expired,
        of_another,
        f"{head}.{payload}.{signature[::-1]}",
        f"{unsigned}.{payload}.",
        "nonsense",
        "",
    ]

    for token in forged:
        answer = await http.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, token
    assert (await http.get("/api/me", headers={"Authorization": f"Basic {caller.token}"})).status_code == 401
    assert (await http.get("/api/me")).status_code == 401


async def test_an_outdated_hash_is_renewed_by_the_next_login(world: World, resources: Resources) -> None:
    caller = await world.user()
    resources.passwords = Passwords(memory_kib=128, iterations=1)

    await world.log_in(caller.username)

    async with resources.database() as session:
        encoded = (await session.get_one(User, caller.user_id)).password_hash
    assert "m=128" in encoded
    await world.log_in(caller.username)
