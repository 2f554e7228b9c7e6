"""Plugins uploaded through the API, and where."""

from typing import Any

from tests.fakes.plugin_packages import package
from tests.integration.control_plane.callers import Caller, Tenant

SECRET = "canary-2342"
ADMIN = "/api/admin/plugins"


async def upload(caller: Caller, path: str, data: bytes, status: int = 201, **form: str) -> Any:
    answer = await caller.call("POST", f"{path}/upload", files={"file": ("p.zip", data, "application/zip")}, data=form)
    assert answer.status_code == status, answer.text
    return answer.json()


def plugins_of(tenant: Tenant) -> str:
    return f"{tenant.path}/plugins"


async def uploaded(tenant: Tenant, **options: Any) -> Any:
    return await upload(tenant.admin, plugins_of(tenant), package(**options))


def codes(problem: Any) -> set[tuple[str, str]]:
    return {(error["field"], error["code"]) for error in problem["errors"]}
