"""What workers are given: snapshots, changes, grants."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from control_plane.wiring import Resources
from shared.ids import new_id
from shared.orchestrator_config import read_stored
from shared.security.grants import Grant
from shared.security.key_wrapping import data_keyring
from shared.snapshots import SEALED_FIELD, ChangePage, OrchestratorSnapshot, api_key_place, plugin_setting_place
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_orchestrator_lifecycle import WORKER
from tests.integration.control_plane.workshop import WEATHER, WEATHER_SETTINGS, Workshop, add_plugin


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def snapshot_of(http: httpx.AsyncClient, instance_id: str) -> OrchestratorSnapshot:
    answer = await http.get(f"/internal/snapshots/{instance_id}", headers=WORKER)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=OrchestratorSnapshot)


async def changes_since(http: httpx.AsyncClient, since: int, limit: int = 500) -> ChangePage:
    answer = await http.get("/internal/changes", params={"since": since, "limit": limit}, headers=WORKER)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=ChangePage)


async def test_a_snapshot_holds_all_that_is_needed_and_every_secret_sealed_for_its_place(
    shop: Workshop, http: httpx.AsyncClient, resources: Resources
) -> None:
    await add_plugin(resources, WEATHER, schema=WEATHER_SETTINGS)
    made = await shop.orchestrator(
        active_plugin_ids=[WEATHER, shop.calculator_id],
        plugin_settings={WEATHER: {"api_key": "canary-secret"}},
        whoami="A test",
    )
    snapshot = await snapshot_of(http, made["instance_id"])

    assert (snapshot.revision, snapshot.config_hash) == (made["revision"], made["config_hash"])
    assert read_stored(snapshot.mode, snapshot.config).mode_config.run_timeout == 300
    weather, calculator = snapshot.plugins
    assert (weather.pid, calculator.plugin_id) == (WEATHER, UUID(shop.calculator_id))
    assert (weather.settings["units"], weather.settings["retries"]) == ("metric", 2)
    place = plugin_setting_place(snapshot.instance_id, f"system:{WEATHER}@1.0.0", "api_key")
    keyring = await data_keyring(resources.key_wrapping, snapshot.data_keys)
    assert keyring.open(weather.settings["api_key"][SEALED_FIELD], **place) == '"canary-secret"'
    (config,) = snapshot.llm_configs.values()
    assert keyring.open(config.sealed_api_key, **api_key_place(config.id)) == "sk-0123456789abcdef"
    raw = (await http.get(f"/internal/snapshots/{made['instance_id']}", headers=WORKER)).text
    assert "canary-secret" not in raw
    assert "sk-0123456789abcdef" not in raw


async def test_what_is_gone_has_no_snapshot_but_is_told_once_more(
    shop: Workshop, http: httpx.AsyncClient, root: Caller
) -> None:
    made = await shop.orchestrator()
    await shop.admin.delete(shop.at(made))
    assert (await snapshot_of(http, made["instance_id"])).status == "inactive"
    await root.delete(shop.at(made))

    (change,) = (await changes_since(http, made["revision"])).changes
    assert (str(change.instance_id), change.is_deleted) == (made["instance_id"], True)
    for unknown in (made["instance_id"], str(new_id())):
        answer = await http.get(f"/internal/snapshots/{unknown}", headers=WORKER)
        assert answer.status_code == 404
    await root.delete(shop.at(made, "/purge"))
    assert (await changes_since(http, 0)).changes == ()


async def test_a_price_reaches_exactly_the_instances_whose_calls_may_go_to_the_model_and_rebuilds_none(
    shop: Workshop, http: httpx.AsyncClient, root: Caller
) -> None:
    claude = await shop.llm_config(provider="claude", model_name="sonnet")
    plain = await shop.orchestrator()
    other = await shop.orchestrator(config={"default_llm_config_id": claude})
    nodes = {"synthesizer_node": {"llm_config_id": claude}, "supervisor_node": {"model_name": "gpt-large"}}
    mixed = await shop.orchestrator(config={"default_llm_config_id": shop.llm_config_id, "mode_config": nodes})
    hashes = {made["instance_id"]: made["config_hash"] for made in (plain, other, mixed)}
    since = mixed["revision"]

    async def changed() -> set[str]:
        """The instances that got a new revision."""
        nonlocal since
        page = await changes_since(http, since)
        since = page.next_since
        found = {str(change.instance_id): change.config_hash for change in page.changes}
        assert found.items() <= hashes.items()
        return {*found}

    async def priced(provider: str, name: str, **prices: Any) -> str:
        body = {"provider": provider, "model_name": name, **prices}
        made = await root.post("/api/admin/providers/models", body)
        return f"/api/admin/providers/models/{made.json()['id']}"

    path = await priced("openai", "gpt-test", input_price=0.1, output_price=0.2)
    users = await changed()
    assert users == {plain["instance_id"], mixed["instance_id"]}
    await priced("anthropic", "sonnet", input_price=3, output_price=15, cached_price=0.3)
    assert await changed() == {other["instance_id"], mixed["instance_id"]}
    await priced("openai", "gpt-large")
    await priced("openai", "sonnet", input_price=1, output_price=1)
    assert await changed() == set(), "one has no price, the other is of another vendor"

    snapshot = await snapshot_of(http, mixed["instance_id"])
    assert {(p.provider, p.model_name, p.input, p.output, p.cached) for p in snapshot.prices} == {
        ("openai", "gpt-test", Decimal("0.1"), Decimal("0.2"), None),
        ("claude", "sonnet", Decimal(3), Decimal(15), Decimal("0.3")),
    }
    await root.patch(path, {"display_name": "A test"})
    assert await changed() == set()
    await root.patch(path, {"output_price": 0.4})
    assert await changed() == users
    await root.delete(path)
    assert await changed() == users
    assert (await snapshot_of(http, plain["instance_id"])).prices == ()


async def test_the_feed_shows_each_instance_once_in_the_order_of_revisions(
    shop: Workshop, http: httpx.AsyncClient
) -> None:
    made = [await shop.orchestrator() for _ in range(3)]
    await shop.admin.patch(shop.at(made[0]), {"whoami": "changed"})

    seen: list[str] = []
    since, pages = 0, 0
    while True:
        page = await changes_since(http, since, limit=2)
        seen += [str(c.instance_id) for c in page.changes]
        since, pages = page.next_since, pages + 1
        if not page.has_more:
            break
    assert seen == [made[1]["instance_id"], made[2]["instance_id"], made[0]["instance_id"]]
    assert pages == 2
    again = await changes_since(http, since)
    assert (again.changes, again.next_since) == ((), since)


async def test_a_reader_of_the_feed_misses_nothing_while_many_write(shop: Workshop, http: httpx.AsyncClient) -> None:
    made = [await shop.orchestrator() for _ in range(4)]
    known: dict[str, int] = {}
    done = asyncio.Event()

    async def follow() -> None:
        since = 0
        while True:
            was_done = done.is_set()
            page = await changes_since(http, since)
            for change in page.changes:
                assert change.revision > known.get(str(change.instance_id), 0)
                known[str(change.instance_id)] = change.revision
            since = page.next_since
            if was_done and not page.changes:
                return

    async def write(orchestrator: dict[str, Any]) -> int:
        last = 0
        for number in range(6):
            answer = await shop.admin.patch(shop.at(orchestrator), {"whoami": f"{number}"})
            last = answer.json()["revision"]
        return last

    following = asyncio.create_task(follow())
    last = await asyncio.gather(*[write(orchestrator) for orchestrator in made])
    done.set()
    await asyncio.wait_for(following, 30)
    assert known == {o["instance_id"]: revision for o, revision in zip(made, last, strict=True)}


async def test_a_worker_reads_grants_from_the_truth(
    shop: Workshop, http: httpx.AsyncClient, root: Caller, world: World
) -> None:
    async def grant(caller: Caller, **query: str) -> Grant:
        answer = await http.get(f"/internal/grants/{caller.user_id}", params=query, headers=WORKER)
        return msgspec.json.decode(answer.content, type=Grant)

    org_id = shop.tenant.org_id
    assert (await grant(shop.member, org_id=org_id)).role == "user"
    assert (await grant(shop.admin, org_id=org_id)).role == "org_admin"
    assert (await grant(root, org_id=org_id)).is_member is False
    assert (await grant(await world.user(), org_id=org_id)).role is None
    await shop.admin.delete(f"{shop.tenant.path}/users/{shop.member.user_id}")
    assert (await grant(shop.member, org_id=org_id)).role is None
    nobody = await http.get(f"/internal/grants/{new_id()}", headers=WORKER)
    assert msgspec.json.decode(nobody.content, type=Grant).is_alive is False


async def test_who_names_a_revision_gets_nothing_older_and_who_names_none_the_newest(
    shop: Workshop, http: httpx.AsyncClient, root: Caller
) -> None:
    made = await shop.orchestrator()
    path = f"/internal/snapshots/{made['instance_id']}"

    async def revision(at_least: int) -> int:
        answer = await http.get(path, params={"at_least": at_least} if at_least else {}, headers=WORKER)
        return msgspec.json.decode(answer.content, type=OrchestratorSnapshot).revision

    known = made["revision"]
    assert await revision(known) == known
    for number in range(3):
        changed = (await shop.admin.patch(shop.at(made), {"whoami": f"number {number}"})).json()["revision"]
        # Whatever was given out a moment ago.
        assert await revision(known) in (known, changed)
        assert await asyncio.gather(*(revision(changed) for _ in range(4))) == [changed] * 4
        assert await revision(0) == changed
        known = changed
    await root.delete(shop.at(made))
    await root.delete(shop.at(made))
    told = (await changes_since(http, known)).changes[0].revision
    for at_least in (0, told):
        assert (await http.get(path, params={"at_least": at_least}, headers=WORKER)).status_code == 404
