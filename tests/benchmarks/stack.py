"""The real thing: embedded servers, control plane and one worker, with orchestrators on the scripted model."""

import asyncio
from collections.abc import Iterator, Mapping
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
from shared.frameworks import Framework, Mode, Provider
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
    with started(home, console) as stack:
        yield asyncio.run(_seeded(stack, model_url, plan))


class StartedStack(msgspec.Struct, frozen=True):
    """Workers, a control plane as their gateway, and who may seed them."""

    directory: DataDirectory
    url: str
    secrets: StackSecrets

    def process(self, slug: str) -> tuple[int, str]:
        """Pid and address of one of its processes."""
        state = self.directory.state()
        assert state is not None
        url = next(process.url for process in state.processes if process.slug == slug)
        return int((self.directory.run / f"{slug}.pid").read_text().split()[0]), url


@contextmanager
def started(home: Path, console: Console, *, workers: int = 1) -> Iterator[StartedStack]:
    directory = DataDirectory(home)
    directory.create()
    options = StackOptions(port=free_port(), worker_count=workers, with_demo=False)
    with directory.locked():
        stack = Stack(directory, options, Display(console), {})
        try:
            secrets = stack.start()
            yield StartedStack(directory, stack.url, secrets)
        finally:
            stack.stop()


class BenchTenant:
    """An organization with a credential for the scripted model and one plugin."""

    def __init__(self, api: CadenceAPI, org: str, config_id: str, plugin_id: str) -> None:
        self.api = api
        self._org = org
        self._config_id = config_id
        self._plugin_id = plugin_id

    @classmethod
    async def create(
        cls, api: CadenceAPI, secrets: StackSecrets, model_url: str, *, package: bytes, provider: Provider
    ) -> "BenchTenant":
        await api.login(secrets.admin_username, secrets.admin_password)
        org_id = (
            await api.call(
                "POST", "/api/admin/orgs", "create an organization", json={"name": "Bench", "tier": "enterprise"}
            )
        )["org_id"]
        user_id = (await api.call("GET", "/api/me", "read the profile"))["user_id"]
        org = f"/api/orgs/{org_id}"
        await api.call("POST", f"{org}/members", "join", json={"user_id": user_id, "is_admin": True})
        credential = {"name": "bench", "provider": provider, "api_key": "sk-bench", "base_url": model_url}
        config = await api.call("POST", f"{org}/llm-configs", "create an LLM config", json=credential)
        form = aiohttp.FormData()
        form.add_field("file", package, filename="plugin.zip", content_type="application/zip")
        plugin = await api.call("POST", f"{org}/plugins/upload", "upload the plugin", data=form)
        return cls(api, org, str(config["id"]), str(plugin["id"]))

    def config(self, model: str) -> dict[str, object]:
        return {"default_llm_config_id": self._config_id, "default_model_name": model}

    async def instance(
        self,
        name: str,
        model: str,
        *,
        framework: Framework = Framework.LANGGRAPH,
        mode: Mode = Mode.SUPERVISOR,
        mode_config: Mapping[str, object] | None = None,
    ) -> Instance:
        """A new orchestrator, once a worker has it."""
        config = {**self.config(model), "mode_config": mode_config or {}}
        body = {
            "name": name,
            "framework_type": framework,
            "mode": mode,
            "active_plugin_ids": [self._plugin_id],
            "tier": "hot",
            "whoami": "You are a benchmark.",
            "config": config,
        }
        created = await self.api.call("POST", f"{self._org}/orchestrators", "create an orchestrator", json=body)
        path = f"{self._org}/orchestrators/{created['instance_id']}"
        await self.api.call("POST", f"{path}/load", "load the orchestrator", json={"tier": "hot"})
        async with asyncio.timeout(READY_SECONDS):
            while True:
                if (await self.api.call("GET", path, "read the orchestrator"))["is_ready"]:
                    return Instance(path)
                await asyncio.sleep(0.05)


async def _seeded(stack: StartedStack, model_url: str, plan: Plan) -> Fleet:
    async with aiohttp.ClientSession() as session:
        api = CadenceAPI(stack.url, session)
        tenant = await BenchTenant.create(
            api, stack.secrets, model_url, package=demo_package(), provider=Provider.OPENAI
        )
        made = [
            await tenant.instance(name, model)
            for name, model in (
                ("bench long", plan.long_model),
                ("bench short", plan.short_model),
                ("bench spare", plan.short_model),
            )
        ]
        worker_pid, worker_url = stack.process("worker-1")
        gateway_pid, gateway_url = stack.process("control-plane")
        return Fleet(
            worker_pid=worker_pid,
            worker_url=worker_url,
            gateway_pid=gateway_pid,
            gateway_url=gateway_url,
            worker_log=stack.directory.logs / "worker-1.log",
            headers=api.headers,
            long=made[0],
            short=made[1],
            spare=made[2],
        )
