"""The routes about an orchestrator at run time: its lifecycle and what workers make of it."""

from typing import Annotated, Literal
from uuid import UUID

from litestar import Response
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.http.bodies import AnyRequest
from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import may
from control_plane.http.handlers import get, post
from control_plane.http.openapi import documented
from control_plane.http.transactions import finish
from control_plane.orchestrators.effective_config import effective_config
from control_plane.orchestrators.lifecycle import LifecycleService
from control_plane.orchestrators.readiness import Readiness
from control_plane.orchestrators.reading import OrchestratorReader
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.schemas import EffectiveConfigView, GraphView, LoadBody, OperationView, StatusView
from control_plane.wiring import Resources
from shared.errors import Conflict, NoLiveWorker, OrchestratorDeactivated
from shared.security.permissions import Permission

NOTHING = LoadBody()
Wait = Annotated[Literal["applied"] | None, QueryParameter(name="wait")]


@post(
    "/{instance_id:uuid}/load",
    guards=[may(Permission.ORG_ORCHESTRATORS_LIFECYCLE)],
    opt=documented(Conflict, OrchestratorDeactivated),
    status_code=202,
    responses={200: ResponseSpec(OperationView, description="Every live worker has applied it")},
    summary="Let workers serve an orchestrator",
)
async def load(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    request: AnyRequest,
    session: NamedDependency[AsyncSession],
    orchestrator_lifecycle: NamedDependency[LifecycleService],
    orchestrator_reader: NamedDependency[OrchestratorReader],
    readiness: NamedDependency[Readiness],
    data: JSONBody[LoadBody] = NOTHING,
    wait: Wait = None,
    if_match: IfMatch = None,
) -> Response[OperationView]:
    """With `wait=applied` it is answered when every live worker has taken it in, and one has it built if its tier is
    `hot`: 200. After ten seconds, or as soon as a worker failed to build it, with 202: workers go on trying. Either way
    `status` then shows what each made of it.
    """
    operation = await orchestrator_lifecycle.load(org_id, instance_id, data.tier, if_match=if_match)
    if wait is None:
        return Response(operation)
    await finish(request, session)
    record = await orchestrator_reader.get(org_id, instance_id)
    is_applied = await readiness.wait_until_applied(
        instance_id, operation.revision, needs_build=record.tier == "hot" and not record.is_unloaded
    )
    # Read again: what was loaded may have been changed or deactivated while we waited.
    operation.status = await readiness.status(await orchestrator_reader.get(org_id, instance_id))
    return Response(operation, status_code=200 if is_applied else 202)


@post(
    "/{instance_id:uuid}/unload",
    guards=[may(Permission.ORG_ORCHESTRATORS_LIFECYCLE)],
    opt=documented(OrchestratorDeactivated),
    status_code=202,
    summary="Stop serving an orchestrator until it is loaded again",
)
async def unload(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    orchestrator_lifecycle: NamedDependency[LifecycleService],
    if_match: IfMatch = None,
) -> OperationView:
    return await orchestrator_lifecycle.unload(org_id, instance_id, if_match=if_match)


@post(
    "/{instance_id:uuid}/reload",
    guards=[may(Permission.ORG_ORCHESTRATORS_LIFECYCLE)],
    opt=documented(Conflict, OrchestratorDeactivated),
    status_code=202,
    summary="Build an orchestrator anew while it goes on serving",
)
async def reload(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    orchestrator_lifecycle: NamedDependency[LifecycleService],
    if_match: IfMatch = None,
) -> OperationView:
    return await orchestrator_lifecycle.reload(org_id, instance_id, if_match=if_match)


@get(
    "/{instance_id:uuid}/status",
    guards=[may(Permission.ORG_ORCHESTRATORS_READ)],
    opt=documented(OrchestratorDeactivated),
    summary="Show what each live worker made of an orchestrator",
)
async def status(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    orchestrator_reader: NamedDependency[OrchestratorReader],
    readiness: NamedDependency[Readiness],
) -> StatusView:
    return await readiness.status(await orchestrator_reader.get(org_id, instance_id))


@get(
    "/{instance_id:uuid}/graph",
    guards=[may(Permission.ORG_ORCHESTRATORS_READ)],
    opt=documented(NoLiveWorker, OrchestratorDeactivated),
    summary="Draw what is really wired",
)
async def graph(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    orchestrator_reader: NamedDependency[OrchestratorReader],
    resources: NamedDependency[Resources],
) -> GraphView:
    """As Mermaid, by a live worker that built it."""
    record = await orchestrator_reader.get(org_id, instance_id)
    worker_id, mermaid = await resources.worker_client.graph(record.id)
    return GraphView(record.id, worker_id, mermaid)


@get(
    "/{instance_id:uuid}/effective-config",
    guards=[may(Permission.ORG_ORCHESTRATORS_READ)],
    opt=documented(OrchestratorDeactivated),
    summary="Show every resolved setting and where it came from",
)
async def show_effective_config(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    session: NamedDependency[AsyncSession],
) -> Response[EffectiveConfigView]:
    definition = await OrchestratorRepository(session).get_definition(org_id, instance_id)
    return tagged(effective_config(definition), definition.row.revision)


HANDLERS = (load, unload, reload, status, graph, show_effective_config)
