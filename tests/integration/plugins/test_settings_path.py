"""The way of a setting: an author's schema, an admin's form, the plugin in a worker; and of a secret nowhere else."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from psycopg import sql
from redis.asyncio import Redis

from control_plane.wiring import Resources
from runtime_worker.plugins.registry import BundleRegistry
from shared.security.key_wrapping import data_keyring
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.plugin_packages import package
from tests.integration.control_plane.callers import World
from tests.integration.control_plane.test_worker_feed import snapshot_of
from tests.integration.control_plane.workshop import Workshop
from tests.integration.runtime_worker.worker import eventually, running_worker, worker_settings

PID = "com.acme.weather"
KEY, NEXT_KEY = f"org:{PID}@1.0.0", f"org:{PID}@2.0.0"
AUTHORS_SECRET, SECRET, NEXT_SECRET = "canary-of-the-author", "canary-of-the-admin", "canary-that-came-later"
CANARIES = (AUTHORS_SECRET, SECRET, NEXT_SECRET)
SETTINGS: list[dict[str, Any]] = [
    {"key": "city", "type": "str", "description": "Where", "required": True},
    {"key": "limit", "type": "int", "description": "How many", "default": 3},
    {"key": "token", "type": "str", "description": "Token", "sensitive": True, "default": AUTHORS_SECRET},
]
TOOL = """
SEEN = {}

@uvtool
def settings() -> dict:
    '''What the plugin was given.'''
    return dict(SEEN)
"""
AGENT = """
def initialize(self, config):
    SEEN.update(config)
"""


class SettingsPath:
    """A tenant with the plugin in its catalogue, and a worker's registry that may load it."""

    def __init__(self, shop: Workshop, http: httpx.AsyncClient, bundles: BundleRegistry) -> None:
        self.shop = shop
        self.http = http
        self.bundles = bundles

    async def upload(self, version: str = "1.0.0", settings: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        data = package(
            pid=PID, version=version, tools=TOOL, tool_names="settings", agent=AGENT, settings=settings or SETTINGS
        )
        answer = await self.shop.admin.call(
            "POST", f"{self.shop.tenant.path}/plugins/upload", files={"file": ("p.zip", data, "application/zip")}
        )
        assert answer.status_code == 201, answer.text
        uploaded: dict[str, Any] = answer.json()
        return uploaded

    async def orchestrator(self, **settings: Any) -> dict[str, Any]:
        return await self.shop.orchestrator(active_plugin_ids=[PID], plugin_settings={PID: settings})

    async def change(self, made: dict[str, Any], **settings: Any) -> dict[str, Any]:
        answer = await self.shop.admin.patch(
            self.shop.at(made, "/plugin-settings"), {"plugin_settings": {PID: settings}}
        )
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    async def effective(self, made: dict[str, Any]) -> Any:
        """What the plugin says it was given, loaded from the instance's snapshot as a worker does."""
        snapshot = await snapshot_of(self.http, made["instance_id"])
        bundle = await self.bundles.acquire(
            snapshot.plugins[0],
            org_id=snapshot.org_id,
            instance_id=snapshot.instance_id,
            keyring=await data_keyring(self.shop.resources.key_wrapping, snapshot.data_keys),
        )
        try:
            outcome = await bundle.call("settings", {}, timeout_seconds=10)
        finally:
            await self.bundles.release(bundle)
        assert not outcome.is_error, outcome.content
        return outcome.shown


@pytest.fixture
def worker(
    resources: Resources, redis_url: str, mongo_url: str, nats_server_url: str, tmp_path: Path
) -> WorkerSettings:
    """A worker of the control plane of this test: the same keys, the same packages."""
    settings = worker_settings(
        control_plane=FakeControlPlane(),
        redis_url=redis_url,
        mongo_url=mongo_url,
        broker_url=nats_server_url,
        home=tmp_path,
    )
    security = msgspec.structs.replace(settings.security, keyring=resources.keyring)
    return msgspec.structs.replace(settings, security=security, packages=resources.settings.packages)


@pytest.fixture
async def path(
    world: World, resources: Resources, http: httpx.AsyncClient, worker: WorkerSettings
) -> AsyncIterator[SettingsPath]:
    bundles = BundleRegistry(worker)
    yield SettingsPath(await Workshop.open(world, resources), http, bundles)
    await bundles.close()


async def test_the_schema_becomes_form_data_that_shows_no_secret(path: SettingsPath) -> None:
    plugin = await path.upload()

    answer = await path.shop.admin.get(f"{path.shop.tenant.path}/plugins/{plugin['id']}/settings-schema")

    form = answer.json()
    assert form["key"] == KEY, "where an instance's values go"
    shown = [(s["key"], s["type"], s.get("required"), s.get("sensitive"), s.get("default")) for s in form["settings"]]
    assert shown == [
        ("city", "str", True, False, None),
        ("limit", "int", False, False, 3),
        ("token", "str", False, True, "***"),
    ]


async def test_a_wrong_value_is_refused_by_name_and_never_repeated(path: SettingsPath) -> None:
    await path.upload()
    for given, expected in (
        ({"city": "Bonn", "limit": SECRET}, [(f"plugin_settings.{PID}.limit", "type")]),
        ({"city": "Bonn", "limit": True}, [(f"plugin_settings.{PID}.limit", "type")]),
        ({"city": "Bonn", "token": [SECRET]}, [(f"plugin_settings.{PID}.token", "type")]),
        ({"city": "Bonn", "colour": SECRET}, [(f"plugin_settings.{PID}.colour", "unknown")]),
        ({}, [(f"plugin_settings.{KEY}.city", "required")]),
    ):
        body = path.shop.body(active_plugin_ids=[PID], plugin_settings={PID: given})
        refused = await path.shop.admin.post(path.shop.path, body)
        assert (refused.status_code, refused.json()["code"]) == (422, "PL-0004")
        assert [(e["field"], e["code"]) for e in refused.json()["errors"]] == expected
        assert SECRET not in refused.text


async def test_what_an_admin_sets_is_what_the_plugin_gets(path: SettingsPath) -> None:
    await path.upload()

    made = await path.orchestrator(city="Bonn")
    assert await path.effective(made) == {"city": "Bonn", "limit": 3, "token": AUTHORS_SECRET}
    await path.change(made, token=SECRET, limit=7)
    assert await path.effective(made) == {"city": "Bonn", "limit": 7, "token": SECRET}
    unchanged = await path.change(made, token="***", city="Ulm")
    assert unchanged["plugin_settings"] == {KEY: {"city": "Ulm", "limit": 7, "token": "***"}}
    assert await path.effective(made) == {"city": "Ulm", "limit": 7, "token": SECRET}
    await path.change(made, token=None, limit=None)
    assert await path.effective(made) == {"city": "Ulm", "limit": 3, "token": AUTHORS_SECRET}


async def test_a_mask_where_nothing_is_stored_stays_the_default(path: SettingsPath) -> None:
    """A form sends back what it was shown, and a sensitive default is shown as a mask."""
    await path.upload()

    made = await path.orchestrator(city="Bonn", token="***")

    assert await path.effective(made) == {"city": "Bonn", "limit": 3, "token": AUTHORS_SECRET}


async def test_settings_follow_to_another_version_and_a_sync_writes_its_defaults_down(path: SettingsPath) -> None:
    await path.upload()
    made = await path.orchestrator(city="Bonn", limit=9, token=SECRET)
    await path.upload(
        "2.0.0",
        [
            SETTINGS[0],
            {"key": "limit", "type": "str", "description": "In words now", "default": "few"},
            {"key": "token", "type": "str", "description": "Forgot that it is secret"},
            {"key": "region", "type": "str", "description": "New", "default": "eu"},
        ],
    )

    answer = await path.shop.admin.post(path.shop.at(made, "/plugins/activate"), {"plugin_id": f"{PID}@2.0.0"})
    assert answer.json()["plugin_settings"] == {NEXT_KEY: {"city": "Bonn", "token": "***"}}
    expected = {"city": "Bonn", "limit": "few", "token": SECRET, "region": "eu"}
    assert await path.effective(made) == expected
    synced = await path.shop.admin.call("PUT", path.shop.at(made, "/plugins/sync"))
    assert synced.json()["plugin_settings"] == {NEXT_KEY: {**expected, "token": "***"}}
    assert await path.effective(made) == expected


async def test_a_version_that_needs_more_is_not_switched_to(path: SettingsPath) -> None:
    await path.upload()
    made = await path.orchestrator(city="Bonn")
    needed = {"key": "country", "type": "str", "description": "Needed", "required": True}
    await path.upload("2.0.0", [*SETTINGS, needed])

    refused = await path.shop.admin.post(path.shop.at(made, "/plugins/activate"), {"plugin_id": f"{PID}@2.0.0"})

    assert refused.status_code == 422
    assert [e["field"] for e in refused.json()["errors"]] == [f"plugin_settings.{NEXT_KEY}.country"]
    assert (await path.effective(made))["city"] == "Bonn"


async def test_a_secret_is_in_no_answer_row_event_snapshot_cache_or_log(
    path: SettingsPath, postgres_owner_url: str, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin = await path.upload()
    made = await path.orchestrator(city="Bonn", token=SECRET)
    told = [made, await path.change(made, token=NEXT_SECRET), plugin]
    assert (await path.effective(made))["token"] == NEXT_SECRET, "there is a secret to be found"

    shop, admin = path.shop, path.shop.admin
    plugins = f"{shop.tenant.path}/plugins"
    for url in (
        shop.path,
        shop.at(made),
        shop.at(made, "/effective-config"),
        shop.at(made, "/status"),
        plugins,
        f"{plugins}/{plugin['id']}",
        f"{plugins}/{PID}/versions",
    ):
        answer = await admin.get(url)
        assert answer.status_code == 200, (url, answer.text)
        told.append(answer.json())
    snapshot = await snapshot_of(path.http, made["instance_id"])
    places = {
        "answers": json.dumps(told),
        "snapshot": msgspec.json.encode(snapshot).decode(),
        "database": await _every_row(postgres_owner_url),
        "redis": await _every_value(redis_url),
        "logs": "".join(capfd.readouterr()),
    }
    assert PID in places["database"], "the search looks where it should"
    found = [(place, canary) for place, content in places.items() for canary in CANARIES if canary in content]
    assert found == []


async def test_a_required_setting_without_a_value_fails_the_load_with_a_reason(
    path: SettingsPath, worker: WorkerSettings
) -> None:
    await path.upload()
    made = await path.orchestrator(city="Bonn")
    snapshot = await snapshot_of(path.http, made["instance_id"])
    async with FakeControlPlane() as source:
        source.snapshots[snapshot.instance_id] = _without_setting(snapshot, "city")
        settings = msgspec.structs.replace(worker, control_plane_url=source.url)
        async with running_worker(settings, source, None) as running:
            member = await running.sign_in(snapshot.org_id)
            status, problem = await member.chat(snapshot.instance_id, "hello")
            assert (status, problem["code"]) == (503, "OR-0002")
            assert "needs the settings city" in problem["detail"]

            async def state() -> dict[str, Any] | None:
                answer = await path.shop.admin.get(path.shop.at(made, "/status"))
                workers: list[dict[str, Any]] = answer.json()["workers"]
                return next((w for w in workers if w["state"] == "failed"), None)

            failed = await eventually(state)
            assert failed["reason"] == f"{PID}@1.0.0 needs the settings city"
            assert (await running.ready())[0] == 200, "the worker is not hurt by it"


def _without_setting(snapshot: OrchestratorSnapshot, key: str) -> OrchestratorSnapshot:
    """As if a row had lost a value after it was saved."""
    (plugin,) = snapshot.plugins
    settings = {name: value for name, value in plugin.settings.items() if name != key}
    return msgspec.structs.replace(snapshot, plugins=(msgspec.structs.replace(plugin, settings=settings),))


async def _every_row(postgres_owner_url: str) -> str:
    """Every row of every table and organization, as PostgreSQL writes it."""
    async with await psycopg.AsyncConnection.connect(postgres_owner_url) as connection:
        tables = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows: list[str] = []
        for (table,) in await tables.fetchall():
            written = await connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            rows += (row for (row,) in await written.fetchall())
    return "\n".join(rows)


async def _every_value(redis_url: str) -> str:
    """What is under every key, whatever its type."""
    values: list[Any] = []
    # Any: redis-py types each command for its sync and its async client at once.
    client: Any = Redis.from_url(redis_url)
    async with client as redis:
        reads = {
            b"string": redis.get,
            b"hash": redis.hgetall,
            b"set": redis.smembers,
            b"list": lambda key: redis.lrange(key, 0, -1),
            b"zset": lambda key: redis.zrange(key, 0, -1),
            b"stream": redis.xrange,
        }
        for key in await redis.keys():
            values.append((key, await reads[await redis.type(key)](key)))  # noqa: PERF401 - awaits in order
    return str(values)
