"""Permissions, `cadence:{scope}:{resource}:{action}`, and what the built-in roles hold."""

from enum import StrEnum
from typing import Literal

Role = Literal["sys_admin", "org_admin", "user"]


class Permission(StrEnum):
    SYSTEM_ADMIN = "cadence:system:admin"
    SYSTEM_SETTINGS_READ = "cadence:system:settings:read"
    SYSTEM_SETTINGS_WRITE = "cadence:system:settings:write"
    SYSTEM_TIERS_READ = "cadence:system:tiers:read"
    SYSTEM_TIERS_WRITE = "cadence:system:tiers:write"
    SYSTEM_PLUGINS_READ = "cadence:system:plugins:read"
    SYSTEM_PLUGINS_WRITE = "cadence:system:plugins:write"
    SYSTEM_USERS_READ = "cadence:system:users:read"
    SYSTEM_USERS_WRITE = "cadence:system:users:write"
    SYSTEM_PROVIDERS_READ = "cadence:system:providers:read"
    SYSTEM_PROVIDERS_WRITE = "cadence:system:providers:write"
    SYSTEM_TELEMETRY_READ = "cadence:system:telemetry:read"
    SYSTEM_TELEMETRY_WRITE = "cadence:system:telemetry:write"
    SYSTEM_ROLES_READ = "cadence:system:roles:read"
    SYSTEM_ROLES_WRITE = "cadence:system:roles:write"
    SYSTEM_API_KEYS_READ = "cadence:system:api_keys:read"
    SYSTEM_API_KEYS_WRITE = "cadence:system:api_keys:write"
    SYSTEM_AUDIT_READ = "cadence:system:audit:read"
    SYSTEM_AUDIT_WRITE = "cadence:system:audit:write"
    SYSTEM_HEALTH_READ = "cadence:system:health:read"
    SYSTEM_ORGS_CREATE = "cadence:system:orgs:create"

    ORG_READ = "cadence:org:read"
    ORG_WRITE = "cadence:org:write"
    ORG_MEMBERS_READ = "cadence:org:members:read"
    ORG_MEMBERS_WRITE = "cadence:org:members:write"
    ORG_PLUGINS_READ = "cadence:org:plugins:read"
    ORG_PLUGINS_WRITE = "cadence:org:plugins:write"
    ORG_LLM_CONFIGS_READ = "cadence:org:llm-configs:read"
    ORG_LLM_CONFIGS_WRITE = "cadence:org:llm-configs:write"
    ORG_CENTRAL_POINTS_READ = "cadence:org:central-points:read"
    ORG_CENTRAL_POINTS_WRITE = "cadence:org:central-points:write"
    ORG_SETTINGS_READ = "cadence:org:settings:read"
    ORG_SETTINGS_WRITE = "cadence:org:settings:write"
    ORG_ORCHESTRATORS_READ = "cadence:org:orchestrators:read"
    ORG_ORCHESTRATORS_WRITE = "cadence:org:orchestrators:write"
    ORG_ORCHESTRATORS_LIFECYCLE = "cadence:org:orchestrators:lifecycle"
    ORG_STATS_READ = "cadence:org:stats:read"
    ORG_AUDIT_READ = "cadence:org:audit:read"

    CHAT_USE = "cadence:chat:use"
    CHAT_HISTORY_READ = "cadence:chat:history:read"
    PROFILE_READ = "cadence:profile:read"
    PROFILE_WRITE = "cadence:profile:write"

    @property
    def is_of_system(self) -> bool:
        """Whether it is about the platform rather than about one organization or one's own account."""
        return self.startswith("cadence:system:")


EVERYBODYS_PERMISSIONS: frozenset[Permission] = frozenset({Permission.PROFILE_READ, Permission.PROFILE_WRITE})
"""What a user holds who belongs nowhere: an account of one's own."""

MEMBER_PERMISSIONS: frozenset[Permission] = EVERYBODYS_PERMISSIONS | {
    Permission.ORG_READ,
    Permission.ORG_ORCHESTRATORS_READ,
    Permission.CHAT_USE,
    Permission.CHAT_HISTORY_READ,
}
ORG_ADMIN_PERMISSIONS: frozenset[Permission] = MEMBER_PERMISSIONS | {
    p for p in Permission if p.startswith("cadence:org:")
}
SYS_ADMIN_PERMISSIONS: frozenset[Permission] = frozenset(Permission)

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "sys_admin": SYS_ADMIN_PERMISSIONS,
    "org_admin": ORG_ADMIN_PERMISSIONS,
    "user": MEMBER_PERMISSIONS,
}
