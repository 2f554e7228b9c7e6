"""Logging in at an OpenID provider, a real one: who becomes whom, and what is not believed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from control_plane.single_sign_on import provider as provider_module
from shared.settings import ControlPlaneSettings
from tests.fakes.openid_provider import CLIENT_ID, CLIENT_SECRET, REDIRECT_URL, FakeOpenIDProvider
from tests.integration.control_plane.callers import PASSWORD, Caller, World, control_plane_settings

ADA = {
    "sub": "ada-1",
    "preferred_username": "ada",
    "name": "Ada Lovelace",
    "email": "ada@engines.example",
    "email_verified": True,
}
BEGIN, BACK = "/api/auth/oidc/login", "/api/auth/oidc/callback"


@pytest.fixture
async def provider() -> AsyncIterator[FakeOpenIDProvider]:
    async with FakeOpenIDProvider() as running:
        running.person = ADA
        yield running


@pytest.fixture
def settings(
    postgres_url: str, redis_url: str, nats_url: str, tmp_path: Path, provider: FakeOpenIDProvider
) -> ControlPlaneSettings:
    return control_plane_settings(
        postgres_url,
        redis_url,
        nats_url,
        tmp_path,
        OIDC_ISSUER=provider.issuer,
        OIDC_CLIENT_ID=CLIENT_ID,
        OIDC_CLIENT_SECRET=CLIENT_SECRET,
        OIDC_REDIRECT_URL=REDIRECT_URL,
        OIDC_ROLES_CLAIM="realm_access.roles",
        OIDC_ORG_ADMIN_ROLES="cadence-admins",
        OIDC_SYS_ADMIN_ROLES="cadence-platform",
    )


async def at_provider(http: httpx.AsyncClient, path: str = BEGIN) -> str:
    """Where the provider sends the browser that began at `path`."""
    there = await http.get(path)
    assert there.status_code == 302, there.text
    async with httpx.AsyncClient() as browser:
        return str((await browser.get(there.headers["location"])).headers["location"])


async def logged_in(http: httpx.AsyncClient) -> httpx.Response:
    return await http.get(await at_provider(http))


async def me(http: httpx.AsyncClient, answer: httpx.Response) -> dict[str, Any]:
    token = answer.json()["token"]
    found: dict[str, Any] = (await http.get("/api/me", headers={"Authorization": f"Bearer {token}"})).json()
    return found


async def role_in(http: httpx.AsyncClient, answer: httpx.Response, org_id: str) -> str | None:
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    shown = await http.get(f"/api/orgs/{org_id}", headers=headers)
    return shown.json()["role"] if shown.status_code == 200 else None


async def test_somebody_new_gets_an_account_and_is_the_same_one_next_time(http: httpx.AsyncClient) -> None:
    first = await logged_in(http)
    assert first.status_code == 200, first.text
    assert first.headers["cache-control"] == "no-store"
    ada = await me(http, first)
    assert (ada["username"], ada["display_name"], ada["email"]) == ("ada", "Ada Lovelace", "ada@engines.example")
    assert ada["is_sys_admin"] is False

    assert (await me(http, await logged_in(http)))["user_id"] == ada["user_id"]


async def test_the_domain_of_a_verified_address_leads_into_its_organization(
    world: World, http: httpx.AsyncClient, provider: FakeOpenIDProvider
) -> None:
    org_id = await world.organization(domain="engines.example")
    other = await world.organization(domain="other.example")

    assert await role_in(http, await logged_in(http), org_id) == "user"
    assert await role_in(http, await logged_in(http), other) is None
    provider.person = {**ADA, "sub": "eve-1", "preferred_username": "eve", "email_verified": False}
    assert await role_in(http, await logged_in(http), org_id) is None


async def test_roles_of_the_provider_count_at_every_login(
    world: World, http: httpx.AsyncClient, provider: FakeOpenIDProvider, root: Caller
) -> None:
    org_id = await world.organization(domain="engines.example")
    await world.member(org_id, is_admin=True)

    provider.person = {**ADA, "realm_access": {"roles": ["cadence-admins", "cadence-platform"]}}
    answer = await logged_in(http)
    assert (await me(http, answer))["is_sys_admin"] is True
    members = (await root.get(f"/api/orgs/{org_id}/users")).json()["items"]
    assert [m["is_admin"] for m in members if m["username"] == "ada"] == [True]

    provider.person = ADA
    again = await logged_in(http)
    assert (await me(http, again))["is_sys_admin"] is False
    assert await role_in(http, again, org_id) == "user"
    # The session from before holds no more than that either.
    assert await role_in(http, answer, org_id) == "user"


async def test_the_last_admin_of_an_organization_stays_admin(
    world: World, http: httpx.AsyncClient, provider: FakeOpenIDProvider
) -> None:
    org_id = await world.organization(domain="engines.example")
    provider.person = {**ADA, "realm_access": {"roles": ["cadence-admins"]}}
    assert await role_in(http, await logged_in(http), org_id) == "org_admin"

    provider.person = ADA

    assert await role_in(http, await logged_in(http), org_id) == "org_admin"


async def test_an_address_that_somebody_wrote_into_their_profile_is_no_way_into_an_account(
    world: World, http: httpx.AsyncClient
) -> None:
    squatter = await world.user(username="ada", email="ada@engines.example")

    ada = await me(http, await logged_in(http))

    assert ada["user_id"] != str(squatter.user_id)
    assert ada["username"].startswith("ada-")
    assert ada["email"] is None


async def test_whoever_was_deleted_here_does_not_come_back_from_there(http: httpx.AsyncClient, root: Caller) -> None:
    ada = await me(http, await logged_in(http))
    await root.delete(f"/api/admin/users/{ada['user_id']}")

    answer = await logged_in(http)

    assert (answer.status_code, answer.json()["code"]) == (401, "AU-0003")


async def test_tokens_that_are_not_for_us_or_not_of_the_provider_are_not_believed(
    http: httpx.AsyncClient, provider: FakeOpenIDProvider
) -> None:
    forgeries: list[dict[str, Any]] = [
        {"iss": "https://evil.example"},
        {"aud": "another client"},
        {"aud": [CLIENT_ID, "another client"]},
        {"aud": [CLIENT_ID, "another client"], "azp": "another client"},
        {"nonce": "of another login"},
        {"exp": 1},
        {"iat": 32503680000},
        {"sub": ""},
        {"sub": 5},
    ]
    for changes in forgeries:
        provider.forge = lambda claims, changes=changes: {**claims, **changes}  # bound early
        answer = await logged_in(http)
        assert (answer.status_code, answer.json()["code"]) == (401, "AU-0003"), changes
    for missing in ("nonce", "exp", "aud", "iss", "sub"):
        provider.forge = lambda claims, missing=missing: {k: v for k, v in claims.items() if k != missing}
        assert (await logged_in(http)).status_code == 401, missing
    provider.forge = lambda claims: claims
    provider.rotate(is_published=False)
    assert (await logged_in(http)).status_code == 401


async def test_a_new_key_of_the_provider_is_found(
    http: httpx.AsyncClient, provider: FakeOpenIDProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await logged_in(http)
    await logged_in(http)
    assert provider.key_requests == 1
    monkeypatch.setattr(provider_module, "KEYS_AGAIN_SECONDS", 0)

    provider.rotate()

    assert (await logged_in(http)).status_code == 200
    assert provider.key_requests == 2


async def test_a_callback_counts_once_and_only_in_the_browser_that_began(http: httpx.AsyncClient) -> None:
    back = await at_provider(http)
    cookies = dict(http.cookies)

    http.cookies.clear()
    assert (await http.get(back)).status_code == 401
    http.cookies.update({"cadence_sso": "another attempt"})
    assert (await http.get(back)).status_code == 401
    http.cookies.clear()
    http.cookies.update(cookies)
    assert (await http.get(back)).status_code == 200
    http.cookies.update(cookies)
    assert (await http.get(back)).status_code == 401
    for query in ("", "?state=x", "?code=x", "?code=x&state=", "?state=&code="):
        assert (await http.get(BACK + query)).status_code == 401, query


async def test_a_code_that_the_provider_does_not_know_logs_nobody_in(http: httpx.AsyncClient) -> None:
    back = httpx.URL(await at_provider(http))

    answer = await http.get(str(back.copy_set_param("code", "made up")))

    assert (answer.status_code, answer.json()["code"]) == (401, "AU-0003")


async def test_a_provider_that_says_no_or_nothing(http: httpx.AsyncClient, provider: FakeOpenIDProvider) -> None:
    provider.refuses = True
    assert (await logged_in(http)).json()["code"] == "AU-0003"
    provider.refuses = False

    back = await at_provider(http)
    provider.is_away = True
    assert ((gone := await http.get(back)).status_code, gone.json()["code"]) == (502, "AU-0004")


async def test_the_browser_comes_back_to_a_path_of_ours_and_to_no_other(http: httpx.AsyncClient) -> None:
    back = await http.get(await at_provider(http, f"{BEGIN}?return_to=/console/"))
    path, _, token = back.headers["location"].partition("#token=")
    assert (back.status_code, path) == (302, "/console/")
    assert (await http.get("/api/me", headers={"Authorization": f"Bearer {token}"})).status_code == 200

    for elsewhere in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "console",
        "/a%0d%0aSet-Cookie:x",
        "",
    ):
        assert (await http.get(f"{BEGIN}?return_to={elsewhere}")).status_code == 422, elsewhere


async def test_passwords_can_be_switched_off(http: httpx.AsyncClient, root: Caller, app: Any) -> None:
    resources = app.state.resources
    resources.settings = msgspec.structs.replace(resources.settings, local_passwords=False)

    answer = await http.post("/api/auth/login", json={"username": "root", "password": PASSWORD})

    assert (answer.status_code, answer.json()["code"]) == (403, "AZ-0003")
    assert (await logged_in(http)).status_code == 200
