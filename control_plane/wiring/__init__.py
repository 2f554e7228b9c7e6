"""What the process holds, and how each request's services are put together from it.

A feature adds a provider function to the module of its noun and its name to `DEPENDENCIES`; handlers then ask for that
name. A module asks only those before it: resources, tiers, definitions, access, plugins, orchestrators.
"""

from typing import Any

from litestar.di import Provide

from control_plane.wiring.access import (
    provide_api_keys,
    provide_auth,
    provide_members,
    provide_organizations,
    provide_purges,
    provide_roles,
    provide_single_sign_on,
    provide_users,
)
from control_plane.wiring.definitions import provide_llm_configs, provide_provider_models, provide_run_time_settings
from control_plane.wiring.orchestrators import (
    provide_central_points,
    provide_feed,
    provide_fleet,
    provide_orchestrator_lifecycle,
    provide_orchestrator_reader,
    provide_orchestrators,
    provide_readiness,
)
from control_plane.wiring.plugins import provide_mcp_plugins, provide_plugin_uploads, provide_plugins
from control_plane.wiring.resources import Resources as Resources
from control_plane.wiring.resources import provide_resources
from control_plane.wiring.tiers import provide_quota, provide_tiers


def _sync(provider: Any) -> Provide:
    return Provide(provider, sync_to_thread=False)


DEPENDENCIES: dict[str, Provide] = {
    "resources": _sync(provide_resources),
    "api_keys": _sync(provide_api_keys),
    "auth": _sync(provide_auth),
    "central_points": _sync(provide_central_points),
    "feed": _sync(provide_feed),
    "fleet": _sync(provide_fleet),
    "llm_configs": _sync(provide_llm_configs),
    "mcp_plugins": _sync(provide_mcp_plugins),
    "members": _sync(provide_members),
    "orchestrator_lifecycle": _sync(provide_orchestrator_lifecycle),
    "orchestrator_reader": _sync(provide_orchestrator_reader),
    "orchestrators": _sync(provide_orchestrators),
    "organizations": _sync(provide_organizations),
    "plugin_uploads": _sync(provide_plugin_uploads),
    "plugins": _sync(provide_plugins),
    "provider_models": _sync(provide_provider_models),
    "quota": _sync(provide_quota),
    "purges": _sync(provide_purges),
    "readiness": _sync(provide_readiness),
    "run_time_settings": _sync(provide_run_time_settings),
    "roles": _sync(provide_roles),
    "single_sign_on": _sync(provide_single_sign_on),
    "tiers": _sync(provide_tiers),
    "users": _sync(provide_users),
}
