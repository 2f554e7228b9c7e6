"""The control plane as an ASGI application.

Adding a feature `things`:

1. `things/tables.py`, `repository.py`, `service.py`, `schemas.py` as the layout says; import the tables in
   `database/metadata.py`.
2. In `wiring/` a `provide_things(session, resources) -> ThingService` and its entry in `DEPENDENCIES`.
3. `things/handlers.py` with a `router`; put it into `ROUTERS` below. Each handler:

       @patch("/{thing_id:uuid}", guards=[may(Permission.ORG_WRITE)], opt=documented(AlreadyExists), summary="…")
       async def change(
           org_id: FromPath[UUID],                    # the guard has checked the caller's place in it
           thing_id: FromPath[UUID],
           data: JSONBody[ThingPatch],                # msgspec, forbid_unknown_fields=True, UNSET for absent
           things: NamedDependency[ThingService],     # built on the request's one transaction
           if_match: IfMatch = None,
       ) -> Response[ThingView]:
           thing = await things.change(org_id, thing_id, data, if_match=if_match)
           return tagged(ThingView.of(thing), thing.revision)

   `principal: NamedDependency[Principal]` is who calls; `session`, `resources` can be asked for as well. Raise domain
   errors; the commit comes with the end of the request, or with the last row that a service stores (decision 0058).
   What must happen around it: `database.commits.around_commit`.
4. What lives as long as the process belongs to `wiring.Resources`; what runs as long as it, into `_running`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Response, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide

from control_plane.api_keys.handlers import admin_router as api_keys_admin_router
from control_plane.api_keys.handlers import router as api_keys_router
from control_plane.audit.handlers import router as audit_router
from control_plane.audit.recording import AuditTrail
from control_plane.auth.handlers import router as auth_router
from control_plane.central_points.handlers import router as central_points_router
from control_plane.events.background import relay_running
from control_plane.frameworks.handlers import router as frameworks_router
from control_plane.gateway.routes import gateway, openai_gateway
from control_plane.health.handlers import api_router as health_api_router
from control_plane.health.handlers import metrics_router
from control_plane.health.handlers import router as health_router
from control_plane.http.bodies import MAX_JSON_BYTES, AnyRequest, check_body
from control_plane.http.dependencies import resolve_in_turn
from control_plane.http.document import router as document_router
from control_plane.http.guards import provide_principal
from control_plane.http.idempotency import IdempotentAnswers, replay_or_claim
from control_plane.http.methods import OptionsAnswers
from control_plane.http.openapi import openapi_config
from control_plane.http.problems import answer_problem
from control_plane.http.request_ids import RequestIds
from control_plane.http.transactions import provide_session
from control_plane.internal.handlers import router as internal_router
from control_plane.llm_configs.handlers import router as llm_configs_router
from control_plane.me.handlers import router as me_router
from control_plane.members.handlers import router as members_router
from control_plane.orchestrators.handlers import router as orchestrators_router
from control_plane.organizations.handlers import admin_router as organizations_admin_router
from control_plane.organizations.handlers import router as organizations_router
from control_plane.plugins.admin_handlers import router as plugins_admin_router
from control_plane.plugins.handlers import router as plugins_router
from control_plane.plugins.logo_handlers import admin_router as logos_admin_router
from control_plane.plugins.logo_handlers import router as logos_router
from control_plane.plugins.mcp_handlers import admin_router as mcp_admin_router
from control_plane.plugins.mcp_handlers import router as mcp_router
from control_plane.provider_models.handlers import router as provider_models_router
from control_plane.purges.handlers import router as purges_router
from control_plane.roles.handlers import router as roles_router
from control_plane.sessions.handlers import admin_router as sessions_admin_router
from control_plane.sessions.handlers import router as sessions_router
from control_plane.settings.handlers import admin_router as settings_admin_router
from control_plane.settings.handlers import router as settings_router
from control_plane.single_sign_on.handlers import router as single_sign_on_router
from control_plane.tiers.handlers import router as tiers_router
from control_plane.usage.handlers import router as usage_router
from control_plane.users.handlers import router as users_router
from control_plane.wiring import DEPENDENCIES, Resources
from control_plane.wiring.plugins import registering_directories
from control_plane.workers.handlers import router as fleet_router
from control_plane.workers.metrics import FleetMetrics
from shared.metrics import RequestMetrics
from shared.settings import ControlPlaneSettings

VERSION = "0.1.0"

ROUTERS: list[Router] = [
    document_router,
    auth_router,
    me_router,
    single_sign_on_router,
    sessions_router,
    sessions_admin_router,
    api_keys_router,
    api_keys_admin_router,
    organizations_router,
    organizations_admin_router,
    purges_router,
    members_router,
    users_router,
    roles_router,
    llm_configs_router,
    plugins_router,
    plugins_admin_router,
    logos_router,
    logos_admin_router,
    mcp_router,
    mcp_admin_router,
    frameworks_router,
    provider_models_router,
    orchestrators_router,
    central_points_router,
    settings_router,
    settings_admin_router,
    tiers_router,
    fleet_router,
    audit_router,
    usage_router,
    internal_router,
    health_router,
    health_api_router,
    metrics_router,
]


def create_app(settings: ControlPlaneSettings) -> Litestar:
    """The application for these settings. Nothing connects before it starts."""
    metrics = RequestMetrics()
    app = Litestar(
        route_handlers=[*ROUTERS, gateway, openai_gateway],
        dependencies={
            **DEPENDENCIES,
            "session": Provide(provide_session),
            "principal": Provide(provide_principal, sync_to_thread=False),
        },
        before_request=_before_handler,
        exception_handlers={Exception: answer_problem},
        request_max_body_size=MAX_JSON_BYTES,
        cors_config=_cors(settings),
        openapi_config=openapi_config(VERSION),
        state=State(
            {
                "resources": Resources(settings),
                "metrics": metrics,
                "fleet_metrics": FleetMetrics(metrics.registry),
            }
        ),
        lifespan=[_running],
        logging_config=None,
    )
    resolve_in_turn(app)
    measured = metrics.around(app.asgi_handler)
    app.asgi_handler = RequestIds(
        IdempotentAnswers(AuditTrail(OptionsAnswers(measured))), hsts_seconds=settings.hsts_seconds
    )
    return app


async def _before_handler(request: AnyRequest) -> Response[Any] | None:
    """After the guards, before Litestar reads or looks up anything: bodies that cannot be taken, repeated POSTs."""
    await check_body(request)
    return await replay_or_claim(request)


@asynccontextmanager
async def _running(app: Litestar) -> AsyncIterator[None]:
    resources: Resources = app.state.resources
    settings = resources.settings
    async with (
        resources.running(),
        registering_directories(resources),
        relay_running(settings.postgres_url, settings.broker_url),
    ):
        yield


def _cors(settings: ControlPlaneSettings) -> CORSConfig | None:
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "If-Match",
            "Idempotency-Key",
            "X-API-KEY",
            "X-Request-ID",
            "X-Conversation-Id",
            "X-Conversation-Token",
        ],
        expose_headers=[
            "ETag",
            "X-Request-ID",
            "Retry-After",
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "RateLimit-Reset",
            "X-Conversation-Id",
            "X-Conversation-Token",
            "X-Run-Id",
        ],
        allow_credentials="*" not in settings.cors_origins,
    )
