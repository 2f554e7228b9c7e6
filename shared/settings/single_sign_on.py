"""The OpenID provider."""

import msgspec

from shared.environment_variables import Environment
from shared.settings.process import ProcessSettings


class SingleSignOnSettings(msgspec.Struct, frozen=True):
    """The OpenID provider. `redirect_url` is our callback as it is registered there.

    `roles_claim` is where a token lists the user's roles. Who has one of `sys_admin_roles` is sys_admin, and who has
    one of `org_admin_roles` is admin of the organization that the domain of their email belongs to. Where none are
    named, the provider has no say in it.
    """

    issuer: str
    client_id: str
    client_secret: str
    redirect_url: str
    scopes: tuple[str, ...]
    roles_claim: str
    org_admin_roles: frozenset[str]
    sys_admin_roles: frozenset[str]


def read_single_sign_on(env: Environment, process: ProcessSettings) -> SingleSignOnSettings | None:
    if not env.text("OIDC_ISSUER"):
        return None
    schemes = ("https",) if process.is_production else ("https", "http")
    return SingleSignOnSettings(
        issuer=env.url("OIDC_ISSUER", schemes=schemes),
        client_id=env.text("OIDC_CLIENT_ID"),
        client_secret=env.text("OIDC_CLIENT_SECRET"),
        redirect_url=env.url("OIDC_REDIRECT_URL", schemes=schemes),
        scopes=tuple(env.text("OIDC_SCOPES", default="openid profile email").split()),
        roles_claim=env.text("OIDC_ROLES_CLAIM", default="roles"),
        org_admin_roles=frozenset(env.names("OIDC_ORG_ADMIN_ROLES")),
        sys_admin_roles=frozenset(env.names("OIDC_SYS_ADMIN_ROLES")),
    )
