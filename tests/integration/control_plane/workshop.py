"""A tenant with all it needs to configure orchestrators: a model credential and plugins of the catalogue."""

from typing import Any
from uuid import UUID

import msgspec

from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from control_plane.wiring import Resources
from shared.ids import new_id
from shared.packages import package_key
from shared.snapshots import PluginManifest
from tests.integration.control_plane.callers import Tenant, World

CALCULATOR, WEATHER = "com.example.calculator", "com.example.weather"

WEATHER_SETTINGS: tuple[dict[str, Any], ...] = (
    {"key": "units", "type": "str", "description": "°C or °F", "default": "metric"},
    {"key": "api_key", "type": "str", "description": "secret", "sensitive": True},
    {"key": "retries", "type": "int", "description": "how often", "default": 2},
)


async def add_plugin(
    resources: Resources,
    pid: str,
    version: str = "1.0.0",
    *,
    org_id: str | None = None,
    schema: tuple[dict[str, Any], ...] = (),
    is_latest: bool = True,
    enabled: bool = True,
    is_scoped: bool = False,
) -> str:
    """The id of a row in the system catalogue, or in the organization's own."""
    manifest = PluginManifest(
        pid=pid, version=version, name=pid, description="for tests", settings_schema=schema, is_scoped=is_scoped
    )
    owner = UUID(org_id) if org_id else None
    fields: dict[str, Any] = {
        "id": new_id(),
        "pid": pid,
        "version": version,
        "name": pid,
        "description": "for tests",
        "is_latest": is_latest,
        "enabled": enabled,
        "manifest": msgspec.to_builtins(manifest),
        "default_settings": {s["key"]: s["default"] for s in schema if "default" in s},
        "digest": "0" * 64,
        "size_bytes": 1,
        "package_key": package_key(owner, pid, version),
    }
    async with resources.database() as session:
        session.add(SystemPlugin(**fields) if owner is None else OrgPlugin(**fields, org_id=owner))
        await session.commit()
    return str(fields["id"])


class Workshop:
    """`tenant` with `llm_config_id` and the catalogue ids of its plugins."""

    def __init__(self, tenant: Tenant, resources: Resources, llm_config_id: str, calculator_id: str) -> None:
        self.tenant = tenant
        self.admin, self.member = tenant.admin, tenant.member
        self.path = f"{tenant.path}/orchestrators"
        self.resources = resources
        self.llm_config_id = llm_config_id
        self.calculator_id = calculator_id
        self._count = 0

    @classmethod
    async def open(cls, world: World, resources: Resources, *, calculator_id: str | None = None) -> "Workshop":
        tenant = await world.tenant()
        workshop = cls(tenant, resources, "", calculator_id or await add_plugin(resources, CALCULATOR))
        workshop.llm_config_id = await workshop.llm_config()
        return workshop

    async def llm_config(self, **changes: Any) -> str:
        self._count += 1
        body = {
            "name": f"key {self._count}",
            "provider": "openai",
            "api_key": "sk-0123456789abcdef",
            "model_name": "gpt-test",
            **changes,
        }
        answer = await self.admin.post(f"{self.tenant.path}/llm-configs", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def body(self, **changes: Any) -> dict[str, Any]:
        self._count += 1
        return {
            "name": f"Helper {self._count}",
            "framework_type": "langgraph",
            "mode": "supervisor",
            "active_plugin_ids": [self.calculator_id],
            "config": {"default_llm_config_id": self.llm_config_id},
            **changes,
        }

    async def orchestrator(self, **changes: Any) -> dict[str, Any]:
        """A new one, as the API answered it."""
        answer = await self.admin.post(self.path, self.body(**changes))
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    async def central_point(self, instance_id: str, **changes: Any) -> dict[str, Any]:
        """A new one that points at an orchestrator, as the API answered it."""
        self._count += 1
        body = {"name": f"Point {self._count}", "instance_id": instance_id, **changes}
        answer = await self.admin.post(f"{self.tenant.path}/central-points", body)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def at(self, orchestrator: dict[str, Any], rest: str = "") -> str:
        return f"{self.path}/{orchestrator['instance_id']}{rest}"
