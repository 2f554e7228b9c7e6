"""`cadence plugin push` against a server that speaks the API. Against a whole stack: `tests/e2e/test_sdk_readme.py`."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.demo.api import CadenceAPI, CallRefused
from deploy.plugins import pushing
from deploy.plugins.pushing import ChooseOne, activate, find_organization, upload

PLUGIN = {"id": "row-2", "pid": "com.test.shout", "version": "1.1"}
PROBLEM = {
    "status": 422,
    "code": "PL-0003",
    "detail": "The plugin was refused",
    "errors": [
        {"field": "pid", "code": "taken", "message": "taken"},
        {"field": "version", "code": "x", "message": "no version"},
    ],
}


class Platform:
    """One organization with an orchestrator, which is ready at the second look after a change."""

    def __init__(self) -> None:
        self.organizations = [{"org_id": "o1", "name": "One"}]
        self.active = ["row-0"]
        self.used = {"row-0": "com.test.other", "row-1": "com.test.shout"}
        self.calls: list[tuple[str, str, Any]] = []
        self.uploads: list[dict[str, Any]] = []
        self.received = b""
        self.refusal: dict[str, Any] | None = None
        self.looks = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/orgs", self._organizations)
        app.router.add_post("/api/orgs/o1/plugins/upload", self._upload)
        app.router.add_get("/api/orgs/o1/plugins/uploads/u1", self._finish)
        app.router.add_get("/api/orgs/o1/plugins/{id}", self._plugin)
        app.router.add_get("/api/orgs/o1/orchestrators", self._orchestrators)
        app.router.add_get("/api/orgs/o1/orchestrators/i1", self._orchestrator)
        for method in ("PATCH", "POST"):
            app.router.add_route(method, "/api/orgs/o1/orchestrators/i1{rest:.*}", self._change)
        return app

    async def _organizations(self, _: web.Request) -> web.Response:
        return web.json_response({"items": self.organizations, "next_cursor": None})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        self.received = file.file.read()
        if self.refusal is not None:
            return web.json_response(self.refusal, status=422, content_type="application/problem+json")
        if self.uploads:
            return web.json_response({"upload_id": "u1", "state": "running"}, status=202)
        return web.json_response(PLUGIN, status=201)

    async def _finish(self, _: web.Request) -> web.Response:
        return web.json_response(self.uploads.pop(0))

    async def _plugin(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["id"], "pid": self.used[request.match_info["id"]]})

    async def _orchestrators(self, _: web.Request) -> web.Response:
        return web.json_response({"items": [{"instance_id": "i1", "name": "Assistant"}], "next_cursor": None})

    async def _orchestrator(self, _: web.Request) -> web.Response:
        self.looks += 1
        body = {"instance_id": "i1", "name": "Assistant", "active_plugin_ids": self.active, "is_ready": self.looks > 2}
        return web.json_response(body)

    async def _change(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, request.match_info["rest"], await request.json()))
        return web.json_response({})


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setattr(pushing, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(pushing, "_INSTALL_POLL_SECONDS", 0.0)
    return Platform()


@pytest.fixture
async def api(platform: Platform) -> AsyncIterator[CadenceAPI]:
    async with TestServer(platform.app()) as server, aiohttp.ClientSession() as session:
        yield CadenceAPI(str(server.make_url("")), session)


async def test_all_of_the_package_arrives_and_its_progress_is_told(platform: Platform, api: CadenceAPI) -> None:
    package, sent = b"x" * 300_000, list[int]()

    assert await upload(api, "o1", package, on_sent=sent.append) == PLUGIN

    assert platform.received == package
    assert sent == sorted(sent)
    assert sent[0] < sent[-1] == len(package)


async def test_an_upload_that_takes_longer_is_waited_for(platform: Platform, api: CadenceAPI) -> None:
    platform.uploads = [{"state": "running"}, {"state": "running"}, {"state": "done", "plugin": PLUGIN}]

    assert await upload(api, "o1", b"zip", on_sent=print) == PLUGIN


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_refusal_has_every_reason(platform: Platform, api: CadenceAPI, is_late: bool) -> None:
    if is_late:
        platform.uploads = [{"state": "failed", "problem": PROBLEM}]
    else:
        platform.refusal = PROBLEM

    with pytest.raises(CallRefused) as refused:
        await upload(api, "o1", b"zip", on_sent=print)

    assert refused.value.reasons == [("pid", "taken"), ("version", "no version")]
    assert (refused.value.code, refused.value.status) == ("PL-0003", 422)


@pytest.mark.parametrize("wanted", [None, "o1", "One"])
async def test_an_organization_is_found_by_id_by_name_and_alone(api: CadenceAPI, wanted: str | None) -> None:
    assert await find_organization(api, wanted) == ("o1", "One")


@pytest.mark.parametrize("wanted", [None, "Three"])
async def test_a_choice_that_is_none_lists_what_there_is(
    platform: Platform, api: CadenceAPI, wanted: str | None
) -> None:
    platform.organizations.append({"org_id": "o2", "name": "Two"})

    with pytest.raises(ChooseOne, match=r"there is: One \(o1\), Two \(o2\)"):
        await find_organization(api, wanted)


async def test_a_plugin_is_added_to_those_an_orchestrator_has(platform: Platform, api: CadenceAPI) -> None:
    assert await activate(api, "o1", "Assistant", PLUGIN) == "Assistant"

    assert platform.calls == [("PATCH", "", {"active_plugin_ids": ["row-0", "row-2"]}), ("POST", "/load", {})]


async def test_another_version_of_it_is_switched(platform: Platform, api: CadenceAPI) -> None:
    platform.active = ["row-0", "row-1"]

    await activate(api, "o1", "i1", PLUGIN)

    assert platform.calls[0] == ("POST", "/plugins/activate", {"plugin_id": "row-2"})


async def test_an_orchestrator_that_is_none_lists_what_there_is(api: CadenceAPI) -> None:
    with pytest.raises(ChooseOne, match=r"no orchestrator 'Nobody'; there is: Assistant \(i1\)"):
        await activate(api, "o1", "Nobody", PLUGIN)
