"""A package goes to a running Cadence, and where wanted an orchestrator uses it from then on."""

import asyncio
import io
from collections.abc import Callable
from typing import Any

import aiohttp

from deploy.demo.api import CadenceAPI, CallRefused
from deploy.errors import DeployError

READY_SECONDS = 60.0
INSTALL_SECONDS = 600.0
_POLL_SECONDS = 0.1
_INSTALL_POLL_SECONDS = 1.0
_UPLOADING = "upload the plugin"


class ChooseOne(DeployError):
    """It is not clear, or not true, which one was meant; the text lists those there are."""

    exit_code = 2


async def find_organization(api: CadenceAPI, wanted: str | None) -> tuple[str, str]:
    """Id and name of the organization of this id or name, or of the only one. Raises ChooseOne."""
    found: dict[str, str] = {}
    async for organization in api.items("/api/orgs", "list organizations"):
        org_id, name = str(organization["org_id"]), str(organization["name"])
        if wanted in (org_id, name):
            return org_id, name
        found[org_id] = name
    if wanted is None and len(found) == 1:
        return next(iter(found.items()))
    listing = ", ".join(f"{name} ({org_id})" for org_id, name in found.items()) or "none at all"
    raise ChooseOne(
        f"There is no organization {wanted!r}; there is: {listing}."
        if wanted
        else f"Choose an organization with --org; there is: {listing}."
    )


async def upload(
    api: CadenceAPI, org_id: str, package: bytes, *, tag: str | None = None, on_sent: Callable[[int], None]
) -> dict[str, Any]:
    """The plugin as the catalogue has it now. `on_sent` gets the number of bytes of the package that went out so far.

    Raises CallRefused with every reason, DeployError when the server does not finish.
    """
    form = aiohttp.FormData()
    form.add_field("file", _Watched(package, on_sent), filename="plugin.zip", content_type="application/zip")
    if tag is not None:
        form.add_field("tag", tag)
    path = f"/api/orgs/{org_id}/plugins"
    answer = await api.call("POST", f"{path}/upload", _UPLOADING, data=form)
    return answer if "pid" in answer else await _finished(api, f"{path}/uploads/{answer['upload_id']}")


async def _finished(api: CadenceAPI, path: str) -> dict[str, Any]:
    """The plugin of an upload whose dependencies take longer than a request should."""
    try:
        async with asyncio.timeout(INSTALL_SECONDS):
            while True:
                upload = await api.call("GET", path, _UPLOADING)
                if upload["state"] != "running":
                    break
                await asyncio.sleep(_INSTALL_POLL_SECONDS)
    except TimeoutError:
        raise DeployError(f"The server still installs the dependencies after {INSTALL_SECONDS:.0f} s.") from None
    if upload["state"] == "failed":
        raise CallRefused(_UPLOADING, upload["problem"]["status"], upload["problem"])
    plugin: dict[str, Any] = upload["plugin"]
    return plugin


async def activate(api: CadenceAPI, org_id: str, orchestrator: str, plugin: dict[str, Any]) -> str:
    """Have an orchestrator (by id or name) use the plugin, another version of it replaced; its name, once it serves.

    Raises ChooseOne, CallRefused, DeployError when it does not get ready.
    """
    found = await _find_orchestrator(api, org_id, orchestrator)
    path = f"/api/orgs/{org_id}/orchestrators/{found['instance_id']}"
    active: list[str] = [str(plugin_id) for plugin_id in found["active_plugin_ids"]]
    used = [await api.call("GET", f"/api/orgs/{org_id}/plugins/{i}", "read a plugin") for i in active]
    if any(other["pid"] == plugin["pid"] for other in used):
        # Switched, not replaced: this carries the settings over.
        body = {"plugin_id": plugin["id"]}
        await api.call("POST", f"{path}/plugins/activate", f"switch {found['name']}", json=body)
    else:
        body = {"active_plugin_ids": [*active, plugin["id"]]}
        await api.call("PATCH", path, f"change {found['name']}", json=body)
    await api.call("POST", f"{path}/load", f"load {found['name']}", json={})
    await _until_ready(api, path, found["name"])
    return str(found["name"])


async def _find_orchestrator(api: CadenceAPI, org_id: str, wanted: str) -> dict[str, Any]:
    path = f"/api/orgs/{org_id}/orchestrators"
    names = []
    async for item in api.items(path, "list orchestrators"):
        if wanted in (item["instance_id"], item["name"]):
            return await api.call("GET", f"{path}/{item['instance_id']}", "read the orchestrator")
        names.append(f"{item['name']} ({item['instance_id']})")
    raise ChooseOne(f"There is no orchestrator {wanted!r}; there is: {', '.join(names) or 'none at all'}.")


async def _until_ready(api: CadenceAPI, path: str, name: str) -> None:
    """Until a worker serves the newest revision."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                if (await api.call("GET", path, "read the orchestrator"))["is_ready"]:
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        status = await api.call("GET", f"{path}/status", "ask for the state of the orchestrator")
        raise DeployError(f"{name} is not ready after {READY_SECONDS:.0f} s; workers say: {status}") from None


class _Watched(io.BytesIO):
    """A file that tells how far it was read."""

    def __init__(self, content: bytes, on_read: Callable[[int], None]) -> None:
        super().__init__(content)
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self._on_read(self.tell())
        return part
