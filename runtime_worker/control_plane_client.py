"""The worker's view of the control plane: its `/internal` routes, asked with the worker token."""

from collections.abc import Sequence
from datetime import date
from typing import TypeVar
from uuid import UUID

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from shared.audit import ToldChange
from shared.errors import NotFound, StoreUnavailable
from shared.limits import Counted, OrganizationLimits
from shared.logging import get_logger
from shared.purges import PurgePage, PurgeReport
from shared.retention import RetentionPage
from shared.security.api_keys import APIKeyRecord
from shared.security.grants import Grant
from shared.security.organizations import OrganizationState
from shared.snapshots import ChangePage, OrchestratorSnapshot
from shared.usage import Question, Uncounted

T = TypeVar("T")
REQUEST_SECONDS = 5.0
MAX_CONNECTIONS = 20

log = get_logger(__name__)


class ControlPlaneClient:
    """Raises NotFound for what the control plane does not know and StoreUnavailable when it gives no usable answer."""

    def __init__(self, base_url: str, worker_token: str) -> None:
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {worker_token}"}
        self._session: ClientSession | None = None

    async def open(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=MAX_CONNECTIONS),
            timeout=ClientTimeout(total=REQUEST_SECONDS),
            headers=self._headers,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def snapshot(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        """The newest; one that is no older than a revision may come sooner."""
        query = {"at_least": str(at_least)} if at_least > 0 else {}
        return await self._get(f"/internal/snapshots/{instance_id}", query, OrchestratorSnapshot)

    async def changes(self, since: int, limit: int) -> ChangePage:
        return await self._get("/internal/changes", {"since": str(since), "limit": str(limit)}, ChangePage)

    async def retention(self, after: UUID | None, limit: int) -> RetentionPage:
        query = {"limit": str(limit), **({"after": str(after)} if after else {})}
        return await self._get("/internal/retention", query, RetentionPage)

    async def purges(self) -> PurgePage:
        return await self._get("/internal/purges", {}, PurgePage)

    async def tell_of_purge(self, org_id: UUID, report: PurgeReport) -> None:
        await self._ask("POST", f"/internal/purges/{org_id}", {}, msgspec.json.encode(report))

    async def tell_of_change(self, change: ToldChange) -> None:
        await self._ask("POST", "/internal/audit", {}, msgspec.json.encode(change))

    async def grant(self, user_id: UUID, org_id: UUID | None) -> Grant:
        query = {"org_id": str(org_id)} if org_id else {}
        return await self._get(f"/internal/grants/{user_id}", query, Grant)

    async def organization(self, org_id: UUID) -> OrganizationState:
        return await self._get(f"/internal/organizations/{org_id}", {}, OrganizationState)

    async def api_key(self, digest: str) -> APIKeyRecord | None:
        """None when there is no such key."""
        try:
            return await self._get(f"/internal/api-keys/{digest}", {}, APIKeyRecord)
        except NotFound:
            return None

    async def limits(self, org_id: UUID) -> OrganizationLimits:
        return await self._get(f"/internal/limits/{org_id}", {}, OrganizationLimits)

    async def counted(self, org_id: UUID, on: date) -> Counted:
        """What is counted of the organization in the month of that day."""
        return await self._get(f"/internal/limits/{org_id}/counted", {"on": on.isoformat()}, Counted)

    async def uncounted(self, run_ids: Sequence[UUID]) -> Uncounted:
        """Which of these runs are not counted."""
        question = msgspec.json.encode(Question(tuple(run_ids)))
        path = "/internal/usage/uncounted"
        return _read(path, await self._ask("POST", path, {}, question), Uncounted)

    async def _get(self, path: str, query: dict[str, str], kind: type[T]) -> T:
        return _read(path, await self._ask("GET", path, query), kind)

    async def _ask(self, method: str, path: str, query: dict[str, str], data: bytes | None = None) -> bytes:
        if self._session is None:
            raise RuntimeError("the control plane client is not open")
        try:
            url, headers = self._base_url + path, {"Content-Type": "application/json"} if data else None
            async with self._session.request(method, url, params=query, data=data, headers=headers) as response:
                body = await response.read()
                status = response.status
        except (ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailable("the control plane does not answer") from error
        if status == 404:
            raise NotFound
        if status >= 300:
            log.warning("control_plane_refused", path=path, status=status)
            raise StoreUnavailable(f"the control plane answered {status}")
        return body


def _read(path: str, body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        log.error("control_plane_unreadable", path=path, error=str(error))
        raise StoreUnavailable("the control plane's answer cannot be read") from error
