"""Tokens, permissions, grants and addresses, without a server."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import (
    ModelAddressRefused,
    NotAuthenticated,
    NotFound,
    OrganizationSuspended,
    PermissionMissing,
)
from shared.ids import new_id, new_session_id
from shared.security.addresses import check_model_url, is_refused_address
from shared.security.grants import Grant
from shared.security.permissions import ROLE_PERMISSIONS, Permission, Role
from shared.security.tokens import TokenSigner

KEY = "a signing key that is long enough for HS256"


def now() -> datetime:
    return datetime.now(UTC)


def test_a_token_carries_who_and_which_session() -> None:
    user_id, session_id, issued_at = new_id(), new_session_id(), now()
    expires_at = issued_at + timedelta(hours=1)
    signer = TokenSigner(KEY)

    claims = signer.verify(signer.issue(user_id, session_id, issued_at=issued_at, expires_at=expires_at))

    assert (claims.user_id, claims.session_id) == (user_id, session_id)
    assert claims.expires_at == int(expires_at.timestamp())


def test_expired_foreign_and_broken_tokens_are_refused() -> None:
    signer = TokenSigner(KEY)
    expired = signer.issue(new_id(), "s", issued_at=now() - timedelta(hours=2), expires_at=now() - timedelta(hours=1))
    foreign = TokenSigner("another key that is long enough too").issue(
        new_id(), "s", issued_at=now(), expires_at=now() + timedelta(hours=1)
    )

    for token in (expired, foreign, "", "a.b.c", "no token"):
        with pytest.raises(NotAuthenticated):
            signer.verify(token)


def test_a_token_that_was_good_before_is_refused_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, issued_at = TokenSigner(KEY), now()
    token = signer.issue(new_id(), "s", issued_at=issued_at, expires_at=issued_at + timedelta(minutes=1))
    assert signer.verify(token) == signer.verify(token)

    monkeypatch.setattr("time.time", lambda: (issued_at + timedelta(minutes=1)).timestamp())

    for _ in range(2):
        with pytest.raises(NotAuthenticated):
            signer.verify(token)


def grant(role: Role | None, **changes: object) -> Grant:
    fields: dict[str, object] = {
        "user_id": new_id(),
        "org_id": new_id(),
        "username": "u",
        "is_sys_admin": role == "sys_admin",
        "is_alive": True,
        "role": role,
        "is_member": role in ("user", "org_admin"),
        "org_status": "active",
        **changes,
    }
    return Grant(**fields)  # type: ignore[arg-type]


def test_roles_hold_what_the_contract_says() -> None:
    member, admin = ROLE_PERMISSIONS["user"], ROLE_PERMISSIONS["org_admin"]

    assert member == {
        Permission.ORG_READ,
        Permission.ORG_ORCHESTRATORS_READ,
        Permission.CHAT_USE,
        Permission.CHAT_HISTORY_READ,
        Permission.PROFILE_READ,
        Permission.PROFILE_WRITE,
    }
    assert admin == member | {p for p in Permission if p.startswith("cadence:org:")}
    assert ROLE_PERMISSIONS["sys_admin"] == set(Permission)


def test_a_grant_refuses_in_the_order_of_what_may_be_known() -> None:
    grant("user").require(Permission.CHAT_USE)
    with pytest.raises(PermissionMissing):
        grant("user").require(Permission.ORG_WRITE)
    with pytest.raises(NotFound):
        grant(None).require(Permission.CHAT_USE)
    with pytest.raises(NotAuthenticated):
        grant("user", is_alive=False).require(Permission.CHAT_USE)


def test_keys_are_for_members_and_suspension_is_for_all() -> None:
    grant("org_admin").require_key_use()
    grant("sys_admin", is_member=True).require_key_use()
    with pytest.raises(PermissionMissing):
        grant("sys_admin").require_key_use()
    with pytest.raises(OrganizationSuspended):
        grant("user", org_status="suspended").require_active_organization()


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "fd00:ec2::254",
        "224.0.0.1",
        "0.0.0.0",
        "::",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "2002:a9fe:a9fe::",
        "2130706433",
        "127.1",
    ],
)
def test_some_addresses_are_never_called(address: str) -> None:
    assert is_refused_address(address, allow_private=True)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "::ffff:10.0.0.1", "::10.0.0.1"]
)
def test_private_addresses_are_called_only_when_allowed(address: str) -> None:
    assert is_refused_address(address, allow_private=False)
    assert not is_refused_address(address, allow_private=True)


@pytest.mark.parametrize(
    "url", ["https://api.example.com/v1", "https://8.8.8.8:8443/v1", "https://xn--bcher-kva.example."]
)
def test_public_urls_pass(url: str) -> None:
    check_model_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "https://localhost/v1",
        "https://x.localhost",
        "https://127.0.0.1",
        "https://[::1]:1/",
        "https://u:p@api.example.com",
        "ftp://api.example.com",
        "https://",
        "https://api.example.com:port",
        "nonsense",
        "https://127.1",
        "https://2852039166/latest",
        "https://0x7f.0x1",
        "https://0177.0.0.1",
        "https://127.0.0.1.",
        "https://①②⑦.0.0.1",
        "https://%31%32%37.0.0.1",
        "https://[64:ff9b::7f00:1]",
    ],
)
def test_urls_that_lead_elsewhere_are_refused(url: str) -> None:
    with pytest.raises(ModelAddressRefused):
        check_model_url(url, allow_private=False)
