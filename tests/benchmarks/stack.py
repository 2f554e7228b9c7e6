"""The real thing: embedded servers, control plane and one worker, with orchestrators on the scripted model."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console

from deploy.demo.api import CadenceAPI
from deploy.demo.package import demo_package
from deploy.local.ports import free_port
from deploy.stack.data_dir import DataDirectory
from deploy.stack.display import Display
from deploy.stack.secrets import StackSecrets
from deploy.stack.stack import Stack, StackOptions
from tests.benchmarks.measure import Plan, Target

READY_SECONDS = 60.0
MODEL_CALLS = 2
"""Of a supervisor whose answer needs no tool: its decision, then the answer."""
_BODY = '{"message":"hello"}'


class Instance(msgspec.Struct, frozen=True):
    """A loaded orchestrator; `path` is relative to a worker or to the gateway."""

    path: str


class Fleet(msgspec.Struct, frozen=True):
    """What a load needs. `long` answers with all of the plan's tokens, `short` with five, `spare` is reloaded."""

    worker_pid: int
    worker_url: str
    gateway_pid: int
    gateway_url: str
    worker_log: Path
    headers: dict[str, str]
    long: Instance
    short: Instance
    spare: Instance

    def worker(self) -> Target:
        return self._target("worker", self.worker_pid, self.worker_url)

    def gateway(self) -> Target:
        return self._target("gateway before the worker", self.gateway_pid, self.gateway_url)

    def _target(self, name: str, pid: int, base_url: str) -> Target:
        return Target(
            name=name,
            pid=pid,
            url=f"{base_url}{self.long.path}/completion/stream",
            body=_BODY,
            quick_url=f"{base_url}{self.short.path}/completion/stream",
            quick_body=_BODY,
            model_calls=MODEL_CALLS,
            headers=self.headers,
        )


@contextmanager
def running(home: Path, model_url: str, plan: Plan, console: Console) -> Iterator[Fleet]:
    """Start everything on free ports, seed it through the API, and stop it all afterwards."""
    directory = DataDirectory(home)
    directory.create()
    options = StackOptions(port=free_port(), worker_count=1, with_demo=False)
    with directory.locked():
        stack = Stack(directory, options, Display(console), {})
        try:
            secrets = stack.start()
            yield asyncio.run(_seeded(directory, stack.url, secrets, model_url, plan))
        finally:
            stack.stop()


async def _seeded(directory: DataDirectory, url: str, secrets: StackSecrets, model_url: str, plan: Plan) -> Fleet:
    async with aiohttp.ClientSession() as session:
        api = CadenceAPI(url, session)
        await api.login(secrets.admin_username, secrets.admin_password)
        org_id = (await api.call("POST", "/api/admin/orgs", "create an organization", json={"name": "Bench"}))["org_id"]
        user_id = (await api.call("GET", "/api/me", "read the profile"))["user_id"]
        org = f"/api/orgs/{org_id}"
        await api.call("POST", f"{org}/members", "join", json={"user_id": user_id, "is_admin": True})
        credential = {"name": "bench", "provider": "openai", "api_key": "sk-bench", "base_url": model_url}
        config = await api.call("POST", f"{org}/llm-configs", "create an LLM config", json=credential)
        form = aiohttp.FormData()
        form.add_field("file", demo_package(), filename="plugin.zip", content_type="application/zip")
        plugin = await api.call("POST", f"{org}/plugins/upload", "upload the plugin", data=form)
        made = [
            await _instance(api, org, name, str(config["id"]), str(plugin["id"]), model)
            for name, model in (
                ("bench long", plan.long_model),
                ("bench short", plan.short_model),
                ("bench spare", plan.short_model),
            )
        ]
        worker_pid, worker_url = _process(directory, "worker-1")
        gateway_pid, gateway_url = _process(directory, "control-plane")
        return Fleet(
            worker_pid=worker_pid,
            worker_url=worker_url,
            gateway_pid=gateway_pid,
            gateway_url=gateway_url,
            worker_log=directory.logs / "worker-1.log",
            headers=api.headers,
            long=made[0],
            short=made[1],
            spare=made[2],
        )


async def _instance(api: CadenceAPI, org: str, name: str, config_id: str, plugin_id: str, model: str) -> Instance:
    body = {
        "name": name,
        "framework_type": "langgraph",
        "mode": "supervisor",
        "active_plugin_ids": [plugin_id],
        "tier": "hot",
        "whoami": "You are a benchmark.",
        "config": {"default_llm_config_id": config_id, "default_model_name": model},
    }
    created = await api.call("POST", f"{org}/orchestrators", "create an orchestrator", json=body)
    path = f"{org}/orchestrators/{created['instance_id']}"
    await api.call("POST", f"{path}/load", "load the orchestrator", json={"tier": "hot"})
    async with asyncio.timeout(READY_SECONDS):
        while True:
            if (await api.call("GET", path, "read the orchestrator"))["is_ready"]:
                return Instance(path)
            await asyncio.sleep(0.05)


def _process(directory: DataDirectory, slug: str) -> tuple[int, str]:
    state = directory.state()
    assert state is not None
    url = next(process.url for process in state.processes if process.slug == slug)
    return int((directory.run / f"{slug}.pid").read_text().split()[0]), url
