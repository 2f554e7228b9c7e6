"""Sets the demo up through the REST API, exactly as a person would, and finds what an earlier run left."""

import asyncio
from typing import Any

import aiohttp
import msgspec

from deploy.demo.api import CadenceAPI, SeedFailed
from deploy.demo.package import demo_package

ORGANIZATION = "Demo"
LLM_CONFIG = "Demo model"
MODEL = "cadence-demo"
PLUGIN_PID = "dev.cadence.demo.everyday"
PLUGIN_VERSION = "1.0.0"
ORCHESTRATOR = "Demo assistant"
WHOAMI = "You are the assistant of Cadence's demo. You calculate and convert units, in short and friendly sentences."
READY_SECONDS = 90.0
POLL_SECONDS = 0.1
__all__ = ["SeedFailed", "SeededDemo", "seed"]


class SeededDemo(msgspec.Struct, frozen=True):
    """Where the demo's orchestrator can be talked to."""

    org_id: str
    instance_id: str
    llm_config_id: str
    plugin_id: str

    @property
    def path(self) -> str:
        return f"/api/orgs/{self.org_id}/orchestrators/{self.instance_id}"


async def seed(base_url: str, username: str, password: str, model_url: str) -> SeededDemo:
    """Make or find everything, load the orchestrator and wait until it serves. Raises SeedFailed.

    `model_url` is the demo model's `…/v1` address; it may differ from run to run and is brought up to date.
    """
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        api = CadenceAPI(base_url, session)
        await api.login(username, password)
        org_id = await _organization(api)
        llm_config_id = await _llm_config(api, org_id, model_url)
        plugin_id = await _plugin(api, org_id)
        instance_id = await _orchestrator(api, org_id, llm_config_id)
        demo = SeededDemo(org_id, instance_id, llm_config_id, plugin_id)
        await _load(api, demo)
        return demo


async def _organization(api: CadenceAPI) -> str:
    found = await _find(api, "/api/admin/orgs", "list organizations", ORGANIZATION)
    organization = found or await api.call(
        "POST", "/api/admin/orgs", "create the organization", json={"name": ORGANIZATION, "tier": "enterprise"}
    )
    org_id = str(organization["org_id"])
    me = await api.call("GET", "/api/me", "read the own profile")
    # 409: an earlier run made the admin a member.
    member = {"user_id": me["user_id"], "is_admin": True}
    await api.call("POST", f"/api/orgs/{org_id}/members", "join the organization", accept=(409,), json=member)
    return org_id


async def _llm_config(api: CadenceAPI, org_id: str, model_url: str) -> str:
    path = f"/api/orgs/{org_id}/llm-configs"
    found = await _find(api, path, "list LLM configs", LLM_CONFIG)
    if found is None:
        body = {
            "name": LLM_CONFIG,
            "provider": "openai",
            "api_key": "the-demo-model-needs-no-key",
            "model_name": MODEL,
            "base_url": model_url,
        }
        found = await api.call("POST", path, "create the LLM config", json=body)
    elif found["base_url"] != model_url:
        await api.call("PATCH", f"{path}/{found['id']}", "update the LLM config", json={"base_url": model_url})
    return str(found["id"])


async def _plugin(api: CadenceAPI, org_id: str) -> str:
    path = f"/api/orgs/{org_id}/plugins"
    async for plugin in api.items(path, "list plugins", pid=PLUGIN_PID):
        if plugin["pid"] == PLUGIN_PID and plugin["version"] == PLUGIN_VERSION:
            return str(plugin["id"])
    form = aiohttp.FormData()
    form.add_field("file", demo_package(), filename="plugin.zip", content_type="application/zip")
    uploaded = await api.call("POST", f"{path}/upload", "upload the example plugin", data=form)
    return str(uploaded["id"])


async def _orchestrator(api: CadenceAPI, org_id: str, llm_config_id: str) -> str:
    path = f"/api/orgs/{org_id}/orchestrators"
    found = await _find(api, path, "list orchestrators", ORCHESTRATOR)
    if found is None:
        body = {
            "name": ORCHESTRATOR,
            "framework_type": "langgraph",
            "mode": "supervisor",
            "active_plugin_ids": [PLUGIN_PID],
            "tier": "hot",
            "whoami": WHOAMI,
            "config": {"default_llm_config_id": llm_config_id},
        }
        found = await api.call("POST", path, "create the orchestrator", json=body)
    return str(found["instance_id"])


async def _load(api: CadenceAPI, demo: SeededDemo) -> None:
    """Load, unless it serves already, and wait for the first worker that is ready at the current revision."""
    orchestrator = await api.call("GET", demo.path, "read the orchestrator")
    if orchestrator["is_ready"]:
        return
    await api.call("POST", f"{demo.path}/load", "load the orchestrator", json={"tier": "hot"})
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                if (await api.call("GET", demo.path, "read the orchestrator"))["is_ready"]:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        status = await api.call("GET", f"{demo.path}/status", "ask for the state of the orchestrator")
        raise SeedFailed(f"the orchestrator is not ready after {READY_SECONDS:.0f} s; workers say: {status}") from None


async def _find(api: CadenceAPI, path: str, doing: str, name: str) -> dict[str, Any] | None:
    async for item in api.items(path, doing):
        if item["name"] == name and not item.get("is_deleted") and item.get("status") != "inactive":
            return item
    return None
