"""A control plane for a worker: its internal routes over real HTTP, from what a test puts into it."""

from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from shared.audit import ToldChange
from shared.ids import new_id
from shared.limits import Counted, OrganizationLimits
from shared.purges import PendingPurge, PurgePage, PurgeReport
from shared.retention import OrganizationRetention, RetentionPage
from shared.security.api_keys import APIKeyRecord
from shared.security.grants import Grant
from shared.security.organizations import OrganizationState
from shared.security.permissions import Role
from shared.snapshots import CentralPointChange, ChangePage, InstanceChange, OrchestratorSnapshot
from shared.usage import Question, Uncounted

TOKEN = "worker-token-of-the-tests-0123456789abcdef"


class FakeControlPlane:
    """`put` publishes an instance at the next revision; `is_away` refuses every request with a 503, and
    `is_feed_away` those for changes.
    """

    def __init__(self) -> None:
        self.snapshots: dict[UUID, OrchestratorSnapshot] = {}
        self.api_keys: dict[str, APIKeyRecord] = {}
        self.grants: dict[tuple[UUID, UUID], Grant] = {}
        self.retention: dict[UUID, int | None] = {}
        self.limits: dict[UUID, OrganizationLimits] = {}
        self.counted: dict[UUID, Counted] = {}
        self.questions_what_is_counted = 0
        self.told_changes: list[ToldChange] = []
        self.counted_runs: set[UUID] = set()
        self.points: dict[UUID, CentralPointChange] = {}
        self.organizations: dict[UUID, OrganizationState] = {}
        self.purges: dict[UUID, PendingPurge] = {}
        self.purge_reports: list[tuple[UUID, PurgeReport]] = []
        self.is_away = False
        self.is_feed_away = False
        self.revision = 0
        self._deleted: dict[UUID, tuple[OrchestratorSnapshot, int]] = {}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> "FakeControlPlane":
        app = web.Application()
        app.router.add_get("/internal/snapshots/{instance_id}", self._snapshot)
        app.router.add_get("/internal/changes", self._changes)
        app.router.add_get("/internal/grants/{user_id}", self._grant)
        app.router.add_get("/internal/retention", self._retention)
        app.router.add_get("/internal/limits/{org_id}", self._limits)
        app.router.add_get("/internal/limits/{org_id}/counted", self._counted)
        app.router.add_post("/internal/usage/uncounted", self._uncounted)
        app.router.add_post("/internal/audit", self._hear_of_change)
        app.router.add_get("/internal/purges", self._purges)
        app.router.add_post("/internal/purges/{org_id}", self._hear_of_purge)
        app.router.add_get("/internal/api-keys/{digest}", self._api_key)
        app.router.add_get("/internal/organizations/{org_id}", self._organization)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def put(self, snapshot: OrchestratorSnapshot, **changes: Any) -> OrchestratorSnapshot:
        self.revision += 1
        stored = msgspec.structs.replace(snapshot, revision=self.revision, **changes)
        self.snapshots[stored.instance_id] = stored
        return stored

    def delete(self, instance_id: UUID) -> None:
        self.revision += 1
        self._deleted[instance_id] = (self.snapshots.pop(instance_id), self.revision)

    def point(
        self, snapshot: OrchestratorSnapshot, central_id: UUID | None = None, **changes: Any
    ) -> CentralPointChange:
        """Publish a central point that leads to an instance, a new one or one that is there."""
        self.revision += 1
        known = self.points.get(central_id) if central_id else None
        point = known or CentralPointChange(
            new_id(), snapshot.org_id, 0, "Helpdesk", snapshot.instance_id, "private", 600, 600
        )
        changes = {"instance_id": snapshot.instance_id, "revision": self.revision, **changes}
        self.points[point.central_id] = msgspec.structs.replace(point, **changes)
        return self.points[point.central_id]

    def admit(self, user_id: UUID, org_id: UUID, role: Role | None = "user", **changes: Any) -> Grant:
        grant = Grant(
            user_id=user_id,
            org_id=org_id,
            username=f"user-{new_id().hex[-6:]}",
            is_sys_admin=role == "sys_admin",
            is_alive=True,
            role=role,
            is_member=role in ("user", "org_admin"),
            org_status="active",
        )
        self.grants[user_id, org_id] = msgspec.structs.replace(grant, **changes)
        return self.grants[user_id, org_id]

    async def _snapshot(self, request: web.Request) -> web.Response:
        self._check(request)
        found = self.snapshots.get(UUID(request.match_info["instance_id"]))
        return _json(found) if found else web.Response(status=404)

    async def _changes(self, request: web.Request) -> web.Response:
        self._check(request)
        if self.is_feed_away:
            raise web.HTTPServiceUnavailable
        since, limit = int(request.query["since"]), int(request.query["limit"])
        rows: list[InstanceChange | CentralPointChange] = [*self.points.values()]
        rows += [_change(s, s.revision) for s in self.snapshots.values()]
        rows += [_change(s, revision, is_deleted=True) for s, revision in self._deleted.values()]
        rows = sorted((row for row in rows if row.revision > since), key=lambda row: row.revision)
        page = rows[:limit]
        instances = tuple(row for row in page if isinstance(row, InstanceChange))
        points = tuple(row for row in page if isinstance(row, CentralPointChange))
        return _json(ChangePage(instances, page[-1].revision if page else since, len(rows) > limit, points))

    async def _retention(self, request: web.Request) -> web.Response:
        """Pages of one, so that whoever asks has to turn them."""
        self._check(request)
        after = request.query.get("after", "")
        rest = sorted((org_id for org_id in self.retention if str(org_id) > after), key=str)
        page = tuple(OrganizationRetention(org_id, self.retention[org_id]) for org_id in rest[:1])
        return _json(RetentionPage(page, rest[0] if len(rest) > 1 else None))

    async def _grant(self, request: web.Request) -> web.Response:
        self._check(request)
        user_id, org_id = UUID(request.match_info["user_id"]), UUID(request.query["org_id"])
        stranger = Grant(user_id, org_id, "stranger", False, True, None, False, None)
        return _json(self.grants.get((user_id, org_id), stranger))

    async def _limits(self, request: web.Request) -> web.Response:
        self._check(request)
        return _json(self.limits.get(UUID(request.match_info["org_id"]), OrganizationLimits()))

    async def _counted(self, request: web.Request) -> web.Response:
        self._check(request)
        self.questions_what_is_counted += 1
        return _json(self.counted.get(UUID(request.match_info["org_id"]), Counted()))

    async def _uncounted(self, request: web.Request) -> web.Response:
        self._check(request)
        question = msgspec.json.decode(await request.read(), type=Question)
        return _json(Uncounted(tuple(run_id for run_id in question.run_ids if run_id not in self.counted_runs)))

    async def _organization(self, request: web.Request) -> web.Response:
        self._check(request)
        found = self.organizations.get(UUID(request.match_info["org_id"]))
        return _json(found or OrganizationState("active"))

    async def _api_key(self, request: web.Request) -> web.Response:
        self._check(request)
        found = self.api_keys.get(request.match_info["digest"])
        return _json(found) if found else web.Response(status=404)

    async def _purges(self, request: web.Request) -> web.Response:
        self._check(request)
        return _json(PurgePage(tuple(self.purges.values())))

    async def _hear_of_change(self, request: web.Request) -> web.Response:
        self._check(request)
        self.told_changes.append(msgspec.json.decode(await request.read(), type=ToldChange))
        return web.Response(status=204)

    async def _hear_of_purge(self, request: web.Request) -> web.Response:
        """Whoever reports may drop from then on; a drop ends the purge."""
        self._check(request)
        org_id = UUID(request.match_info["org_id"])
        if org_id not in self.purges:
            return web.Response(status=404)
        report = msgspec.json.decode(await request.read(), type=PurgeReport)
        self.purge_reports.append((org_id, report))
        if report.has_dropped:
            del self.purges[org_id]
        else:
            self.purges[org_id] = msgspec.structs.replace(self.purges[org_id], may_drop=True)
        return web.Response(status=204)

    def _check(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        if self.is_away:
            raise web.HTTPServiceUnavailable


def _change(snapshot: OrchestratorSnapshot, revision: int, *, is_deleted: bool = False) -> InstanceChange:
    return InstanceChange(
        instance_id=snapshot.instance_id,
        org_id=snapshot.org_id,
        revision=revision,
        config_hash=snapshot.config_hash,
        status=snapshot.status,
        tier=snapshot.tier,
        is_unloaded=snapshot.is_unloaded,
        is_deleted=is_deleted,
    )


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
