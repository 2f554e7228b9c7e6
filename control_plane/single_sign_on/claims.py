"""What an ID token says about somebody, read with our own rules."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._@+-]+")
MAX_NAME = 100


class Identity(msgspec.Struct, frozen=True):
    """`email` is only there when the provider says that it has verified it."""

    subject: str
    username: str
    display_name: str | None
    email: str | None
    roles: frozenset[str]

    @property
    def domain(self) -> str | None:
        return self.email.rpartition("@")[2].lower() if self.email else None

    @classmethod
    def of(cls, claims: Mapping[str, Any], *, roles_claim: str) -> "Identity":
        """`roles_claim` is a dotted path (`realm_access.roles`) to a list of names, or to one."""
        email = claims.get("email")
        is_verified = claims.get("email_verified") is True and isinstance(email, str)
        wanted = claims.get("preferred_username") or email or claims["sub"]
        name = claims.get("name")
        return cls(
            subject=claims["sub"],
            username=_NOT_IN_NAMES.sub("-", str(wanted)).strip("._@+-")[:MAX_NAME] or "user",
            display_name=name[:200].replace("\x00", "") or None if isinstance(name, str) else None,
            email=email if is_verified and len(str(email)) <= 254 else None,
            roles=_roles(claims, roles_claim),
        )


def _roles(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return frozenset({found})
    return frozenset(role for role in found if isinstance(role, str)) if isinstance(found, list) else frozenset()
