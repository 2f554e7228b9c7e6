"""What a tenant keeps is found where it belongs and nowhere else, by a watch that does see.

The fixture of the stack asks the same of everything that any test of this folder was answered, and of all that was
kept meanwhile; here is what the others would not do: everything fails in the worst moment with everything in hand.
"""

import base64
import io
import zipfile
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.e2e.client import Client
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant
from tests.e2e.watching import look_everywhere
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_packages import package
from tests.isolation.canaries import ANSWERS, FILES, LOGS, MONGO, POSTGRES, REDIS, WATCH, Place, Watch

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

LOUD = """
def initialize(self, config):
    self.config = config

def get_tools(self):
    config = self.config

    @uvtool
    def shout(text: str) -> str:
        '''Tell everybody everything and fail.'''
        told = f"{config} {text}"
        print(told)
        print(told, file=sys.stderr, flush=True)
        logging.getLogger("loud").error(told)
        raise RuntimeError(told)

    return [shout]
"""
SETTINGS = [
    {"key": "unit", "type": "str", "description": "What the numbers count.", "default": ""},
    {"key": "account", "type": "str", "description": "Who pays.", "default": "", "sensitive": True},
]


def loud(pid: str) -> bytes:
    return package(pid=pid, top="import logging, sys", settings=SETTINGS, agent=LOUD)


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


async def test_a_canary_is_seen_where_it_belongs_and_nowhere_else(
    stack: RunningStack, admin: Client, model: ModelServer
) -> None:
    tenant = await Tenant.create(admin, model.base_url)
    said = WATCH.plant(tenant.org_id, Place.CONVERSATION)
    model.tools(("add", {"a": 1, "b": 2}))
    model.answer("DONE")
    model.answer("You said ", said, ".")
    body = {"metadata": {"note": said}}
    run = await tenant.client.stream(tenant.stream_path, f"{said}: what is 1 plus 2?", **body)

    assert run.text == f"You said {said}."
    assert model.last.headers["authorization"] == f"Bearer {tenant.model_key}"
    conversation = f"{tenant.org_path}/conversations/{run.first['conversation_id']}"
    await tenant.client.made("PATCH", conversation, json={"title": said})
    for path in (conversation, f"{conversation}/messages", f"{conversation}/export", tenant.path):
        await tenant.client.call("GET", path)
    again = {"name": "Again", "provider": "openai", "api_key": tenant.model_key, "model_name": "m"}
    await tenant.client.made(
        "POST", f"{tenant.org_path}/llm-configs", json=again, headers={"Idempotency-Key": tenant.instance_id}
    )
    await look_everywhere(stack, WATCH)
    WATCH.assert_silent()
    seen = set(WATCH.sightings)
    assert {(ANSWERS, place) for place in (Place.PROMPT, Place.SETTING, Place.CONVERSATION)} <= seen
    assert {(POSTGRES, Place.PROMPT), (POSTGRES, Place.SETTING), (FILES, Place.PACKAGE)} <= seen
    assert {(MONGO, Place.CONVERSATION), (REDIS, Place.CONVERSATION)} <= seen


async def test_a_plugin_that_shouts_and_a_model_that_repeats_tell_nobody_else(
    stack: RunningStack, admin: Client, model: ModelServer
) -> None:
    tenant = await Tenant.create(admin, model.base_url, package=loud)
    said = WATCH.plant(tenant.org_id, Place.CONVERSATION)
    model.tools(("shout", {"text": said}))
    model.answer("DONE")
    model.answer("It failed.")
    run = await tenant.client.stream(tenant.stream_path, said)
    assert run.of("tool_end")[0]["error"]

    for status in (400, 401, 500):
        model.forget()
        model.fail(status, times=9, message=f"Wrong key {tenant.model_key} for {said}")
        await tenant.client.stream(tenant.stream_path, said)
        await tenant.client.call("POST", f"{tenant.path}/completion/chat", json={"message": said})
        await tenant.client.call("POST", f"{tenant.org_path}/llm-configs/{tenant.llm_config_id}/test")
    for body in ({"message": [said]}, {"message": "x", said: said}, {"message": "x", "conversation_id": said}):
        refused = await tenant.client.call("POST", f"{tenant.path}/completion/stream", json=body)
        assert 400 <= refused.status < 500
    await look_everywhere(stack, WATCH)
    WATCH.assert_silent()


async def test_a_package_that_cannot_be_loaded_tells_nobody_else(stack: RunningStack, admin: Client) -> None:
    org = await admin.made("POST", "/api/admin/orgs", json={"name": "Broken", "tier": "enterprise"})
    user_id = admin.user_id
    await admin.made("POST", f"/api/orgs/{org['org_id']}/members", json={"user_id": user_id, "is_admin": True})
    note = WATCH.plant(org["org_id"], Place.PACKAGE)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("plugin.py", f"print('{note}')\nthis is no Python # {note}\n")
    form = aiohttp.FormData()
    form.add_field("file", buffer.getvalue(), filename="broken.zip", content_type="application/zip")
    refused = await admin.call("POST", f"/api/orgs/{org['org_id']}/plugins/upload", data=form)

    assert refused.status == 422
    await look_everywhere(stack, WATCH)
    WATCH.assert_silent()


def test_the_watch_sees_what_is_where_it_does_not_belong() -> None:
    watch = Watch()
    watch.admit("a", "ann")
    watch.admit("b", "ann")
    prompt, key = watch.plant("a", Place.PROMPT), watch.plant("a", Place.MODEL_KEY)

    watch.hear("ann", "/api/orgs/a/orchestrators", prompt.encode())
    watch.see(POSTGRES, "orchestrators", prompt.encode(), lambda _: True)
    assert watch.leaks == set()
    assert watch.sightings == {(ANSWERS, Place.PROMPT): 1, (POSTGRES, Place.PROMPT): 1}
    for user_id, path in (("bob", "/api/orgs/a"), ("ann", "/api/orgs/b"), ("ann", "/api/me"), ("", "/api/orgs/a")):
        watch.hear(user_id, path, b"x" + prompt.encode() + b"y")
        assert watch.leaks == {f"prompt of organization a in answers: {path}"}
        watch.leaks.clear()
    watch.hear("ann", "/api/orgs/a", key.encode())
    watch.see(POSTGRES, "llm_configs", b'{"body":"' + base64.b64encode(b"padding" * 9 + key.encode()), lambda _: True)
    watch.see(LOGS, "worker-1.log", prompt.encode(), lambda _: True)
    with pytest.raises(AssertionError) as told:
        watch.assert_silent()
    assert str(told.value).splitlines()[1:] == [
        "key of organization a in answers: /api/orgs/a",
        "key of organization a in rows: llm_configs",
        "prompt of organization a in logs: worker-1.log",
    ]
