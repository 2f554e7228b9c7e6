"""An organization as an admin makes one: LLM config, plugin, orchestrator."""

import asyncio
import io
import zipfile
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec

from tests.e2e.client import Client
from tests.isolation.canaries import WATCH, Place

PLUGIN = '''
from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, plugin_settings, uvtool

from arithmetic import total


@uvtool
def add(a: float, b: float) -> float:
    """Add two numbers and give their sum."""
    return total(a, b)


class Agent(BaseAgent):
    def get_tools(self):
        return [add]


@plugin_settings(
    [
        {"key": "unit", "type": "str", "description": "What the numbers count.", "default": ""},
        {"key": "account", "type": "str", "description": "Who pays.", "default": "", "sensitive": True},
    ]
)
class Plugin(BasePlugin):
    @staticmethod
    def get_metadata():
        return PluginMetadata(pid="{pid}", name="Sums", version="{version}", description="Adds numbers.")

    @staticmethod
    def create_agent():
        return Agent()
'''
READY_SECONDS = 30


def plugin_zip(pid: str, version: str = "1.0.0", source: str = PLUGIN, note: str = "") -> bytes:
    """A plugin with a helper module beside it, which has a note in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("plugin.py", source.replace("{pid}", pid).replace("{version}", version))
        archive.writestr("arithmetic.py", f"# {note}\n\n\ndef total(a, b):\n    return a + b\n")
    return buffer.getvalue()


class Tenant(msgspec.Struct):
    """What was made, and the client that made it. A canary is in everything that it trusts the platform with."""

    client: Client
    org_id: str
    llm_config_id: str
    plugin_id: str
    instance_id: str
    pid: str
    model_key: str

    @property
    def org_path(self) -> str:
        return f"/api/orgs/{self.org_id}"

    @property
    def path(self) -> str:
        return f"{self.org_path}/orchestrators/{self.instance_id}"

    @property
    def stream_path(self) -> str:
        return f"{self.path}/completion/stream"

    @classmethod
    async def create(
        cls,
        client: Client,
        model_url: str,
        *,
        package: Callable[[str], bytes] | None = None,
        provider: str = "openai",
        mode_config: dict[str, Any] | None = None,
    ) -> "Tenant":
        """`package` makes the plugin's zip for a pid. Settings of plugins are set by their types."""
        suffix = uuid4().hex[:8]
        org = await client.made("POST", "/api/admin/orgs", json={"name": f"Org {suffix}", "tier": "enterprise"})
        org_id = org["org_id"]
        org_path = f"/api/orgs/{org_id}"
        me = await client.made("GET", "/api/me")
        member = {"user_id": me["user_id"], "is_admin": True}
        await client.made("POST", f"{org_path}/members", json=member)
        WATCH.admit(org_id, me["user_id"])
        model_key = f"sk-e2e-{WATCH.plant(org_id, Place.MODEL_KEY)}"
        config = {
            "name": "Model",
            "provider": provider,
            "api_key": model_key,
            "model_name": "demo",
            "base_url": model_url,
        }
        llm_config = await client.made("POST", f"{org_path}/llm-configs", json=config)
        pid = f"dev.example.sums{suffix}"
        form = aiohttp.FormData()
        packed = package(pid) if package else plugin_zip(pid, note=WATCH.plant(org_id, Place.PACKAGE))
        form.add_field("file", packed, filename="sums.zip", content_type="application/zip")
        plugin = await client.made("POST", f"{org_path}/plugins/upload", data=form)
        orchestrator = await client.made(
            "POST",
            f"{org_path}/orchestrators",
            json={
                "name": f"Helper {suffix}",
                "framework_type": "langgraph",
                "mode": "supervisor",
                "active_plugin_ids": [plugin["id"]],
                "tier": "hot",
                "whoami": f"You add numbers. {WATCH.plant(org_id, Place.PROMPT)}",
                "plugin_settings": {pid: _settings(org_id, plugin["settings_schema"])},
                "config": {"default_llm_config_id": llm_config["id"], "mode_config": mode_config or {}},
            },
        )
        tenant = cls(client, org_id, llm_config["id"], plugin["id"], orchestrator["instance_id"], pid, model_key)
        await tenant.load()
        return tenant

    async def load(self) -> None:
        answer = await self.client.call("POST", f"{self.path}/load", json={"tier": "hot"})
        assert answer.status == 202, answer
        self.client.loaded.add(self.path)
        await self.until_ready()

    async def get(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.client.made("GET", self.path)
        return found

    async def until_ready(self) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while not (await self.get())["is_ready"]:
                await asyncio.sleep(0.05)


def _settings(org_id: str, schema: list[dict[str, Any]]) -> dict[str, str]:
    return {
        setting["key"]: WATCH.plant(org_id, Place.SECRET_SETTING if setting.get("sensitive") else Place.SETTING)
        for setting in schema
        if setting["type"] == "str"
    }
