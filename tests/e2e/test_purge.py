"""Deleting and purging an organization that had done everything: a sweep over every store of the whole stack."""

import asyncio
import json
import subprocess
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from deploy.stack.backing import owners_url
from tests.e2e.client import Client
from tests.e2e.running import RunningStack, cadence
from tests.e2e.tenant import Tenant
from tests.isolation.sweep import (
    Found,
    found_in_files,
    found_in_mongo,
    found_in_nats,
    found_in_postgres,
    found_in_redis,
)

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300)]

PURGED_SECONDS = 60
CANARY = "canary-of-the-purge"


class Stores:
    """All that the stack keeps, by where it is."""

    def __init__(self, stack: RunningStack) -> None:
        self.urls = json.loads((stack.data_dir / "run" / "stack.json").read_text())["backing"]
        self.home = stack.data_dir

    async def found(self, needles: list[str], org_id: str) -> list[Found]:
        async with Redis.from_url(self.urls["CADENCE_REDIS_URL"]) as redis:
            in_redis = await found_in_redis(redis, needles)
        return [
            *await found_in_postgres(owners_url(self.urls), needles),
            *in_redis,
            *await found_in_mongo(self.urls["CADENCE_MONGO_URL"], needles, [org_id]),
            *await found_in_nats(self.urls["CADENCE_BROKER_URL"], needles),
            *(await asyncio.to_thread(found_in_files, self.home / "packages", needles)),
            *(await asyncio.to_thread(found_in_files, self.home / "package-cache", needles)),
        ]


async def live_a_little(tenant: Tenant, admin: Client) -> list[str]:
    """Use everything that an organization can use; what may be found of it in the stores."""
    client, org = tenant.client, tenant.org_path
    first = await client.stream(tenant.stream_path, f"{CANARY}: what is 12.5 plus 30?")
    assert first.is_completed
    conversation_id, run_id = first.first["conversation_id"], first.first["run_id"]
    assert (await client.stream(tenant.stream_path, "And 1 plus 1?", conversation_id=conversation_id)).is_completed
    await client.made("PATCH", f"{org}/conversations/{conversation_id}", json={"title": CANARY})
    await client.made("PATCH", f"{org}/profile", json={"description": CANARY})
    await client.made("POST", f"{org}/settings", json={"settings": {"retention_days": 30}})
    defaults = {"settings": {"enabled_suggestion": {"value": True}}}
    await client.made("PUT", f"{org}/orchestrator-defaults", json=defaults)
    body = {"name": CANARY, "provider": "openai", "api_key": f"sk-{CANARY}", "model_name": "m"}
    config = await client.made("POST", f"{org}/llm-configs", json=body, headers={"Idempotency-Key": uuid4().hex})
    key = {"name": "k", "scopes": ["cadence:org:read"], "org_id": tenant.org_id}
    made = await client.made("POST", "/api/me/api-keys", json=key)
    async with client.session.get(client.base_url + org, headers={"X-API-KEY": made["key"]}) as answer:
        assert answer.status == 200
    person = {"username": f"purged-{uuid4().hex[:8]}", "password": "made-up-Passw0rd-3"}
    member = await admin.made("POST", f"/api/admin/orgs/{tenant.org_id}/users", json=person)
    role = {"name": f"Reader {uuid4().hex[:8]}", "scope": "organization", "permissions": ["cadence:org:read"]}
    role_id = (await admin.made("POST", "/api/admin/roles", json=role))["id"]
    given = {"user_id": member["user_id"], "org_id": tenant.org_id}
    await admin.made("POST", f"/api/admin/roles/{role_id}/users", json=given)
    await client.call("DELETE", f"{org}/llm-configs/{tenant.llm_config_id}")
    await client.made("POST", f"{tenant.path}/reload")
    await tenant.until_ready()
    return [
        *(tenant.org_id, tenant.org_id.replace("-", ""), tenant.instance_id, tenant.llm_config_id, tenant.plugin_id),
        *(tenant.pid, config["id"], conversation_id, run_id, CANARY),
    ]


async def test_nothing_is_left_of_an_organization_that_was_deleted_and_purged(
    stack: RunningStack, admin: Client, http: aiohttp.ClientSession, model_url: str, tenant: Tenant
) -> None:
    stores, gone = Stores(stack), await Tenant.create(admin, model_url)
    needles = await live_a_little(gone, admin)
    before = {where.split(":")[0].split("/")[0] for where, _ in await stores.found(needles, gone.org_id)}
    assert {"organizations", "outbox", "CADENCE_ORCHESTRATORS", "tenants", "run"} <= before, before
    # A run that is going on when it happens.
    running = asyncio.create_task(gone.client.stream(gone.stream_path, "What is 12.5 plus 30?"))
    await asyncio.sleep(0.2)

    assert (await admin.call("DELETE", f"/api/admin/orgs/{gone.org_id}")).status == 204
    assert (await admin.call("DELETE", f"/api/admin/orgs/{gone.org_id}/purge")).status == 202
    async with asyncio.timeout(PURGED_SECONDS):
        while (await admin.call("GET", f"/api/admin/orgs/{gone.org_id}/purge")).status != 404:
            await asyncio.sleep(0.2)
    await running

    left = await stores.found(needles, gone.org_id)
    # What the platform's own people did to it stays in the platform's own account, and in no other.
    assert {where for where, _ in left} <= {"audit_log"}, left
    # Who asks for it brings nothing back but what asking for any made-up id leaves for a minute: that it is unknown.
    assert (await gone.client.stream(gone.stream_path, "Anybody here?")).status == 404
    left = await stores.found(needles, gone.org_id)
    assert {where.split(":")[0] for where, _ in left} <= {"audit_log", "perms"}, left
    verify = cadence("audit", "verify", "--data-dir", str(stack.data_dir))
    verified = await asyncio.to_thread(subprocess.run, verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout
    assert (await tenant.client.stream(tenant.stream_path, "What is 12.5 plus 30?")).is_completed


def test_a_sweep_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / CANARY).mkdir()
    (tmp_path / CANARY / "file").write_text("nothing")
    (tmp_path / "other").write_text(f"so {CANARY} it is")

    assert found_in_files(tmp_path, [CANARY]) == [(f"{CANARY}/file", CANARY), ("other", CANARY)]
