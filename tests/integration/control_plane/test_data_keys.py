"""Envelope encryption: whose key opens what, how keys are rotated, and what is left when an organization is deleted."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, update

from control_plane.data_keys.rotation import Progress, Rotation, RotationReport
from control_plane.data_keys.sealed import SEALED_COLUMNS
from control_plane.data_keys.tables import DataKey
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.tables import Orchestrator
from control_plane.wiring import Resources
from control_plane.wiring.definitions import data_keys
from shared.errors import SecretUnreadable
from shared.ids import new_id
from shared.secrets import SecretKeyring
from shared.security.key_wrapping import LocalWrapping, data_keyring, wrapped_by
from shared.snapshots import SEALED_FIELD, WrappedDataKey, api_key_place, plugin_setting_place
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_worker_feed import snapshot_of
from tests.integration.control_plane.workshop import WEATHER, WEATHER_SETTINGS, Workshop, add_plugin

API_KEY = "sk-0123456789abcdef"
CANARY = "canary-secret"
NEW_KEY = bytes(range(32))


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    shop = await Workshop.open(world, resources)
    await add_plugin(resources, WEATHER, schema=WEATHER_SETTINGS)
    return shop


async def orchestrator(shop: Workshop) -> dict[str, Any]:
    return await shop.orchestrator(active_plugin_ids=[WEATHER], plugin_settings={WEATHER: {"api_key": CANARY}})


async def keys_of(resources: Resources, org_id: str | None) -> Sequence[DataKey]:
    owner = UUID(org_id) if org_id else None
    async with resources.database() as session:
        query = select(DataKey).where(DataKey.org_id.is_not_distinct_from(owner)).order_by(DataKey.generation)
        return (await session.scalars(query)).all()


async def sealed_texts(resources: Resources) -> list[str]:
    """Every sealed value of the database."""
    found: list[str] = []

    def note(sealed: str, _: dict[str, Any]) -> str:
        found.append(sealed)
        return sealed

    async with resources.database() as session:
        for column in SEALED_COLUMNS:
            rows = await session.execute(select(column.table.id, getattr(column.table, column.column)))
            for row_id, value in rows:
                column.walk(row_id, value, note)
    return found


async def readable(http: httpx.AsyncClient, resources: Resources, made: dict[str, Any]) -> set[str]:
    """The secrets of an instance, opened as a worker does."""
    snapshot = await snapshot_of(http, made["instance_id"])
    keyring = await data_keyring(resources.key_wrapping, snapshot.data_keys)
    place = plugin_setting_place(snapshot.instance_id, f"system:{WEATHER}@1.0.0", "api_key")
    (config,) = snapshot.llm_configs.values()
    return {
        keyring.open(snapshot.plugins[0].settings["api_key"][SEALED_FIELD], **place),
        keyring.open(config.sealed_api_key, **api_key_place(config.id)),
    }


async def rotated(resources: Resources, *, reseal: bool = False) -> RotationReport:
    told: list[Progress] = []
    rotation = Rotation(resources.database, resources.key_wrapping, reseal=reseal, tell=told.append)
    report = await rotation.run()
    assert all(progress.done <= progress.total for progress in told)
    return report


def add_key(resources: Resources, key_id: str = "k2") -> None:
    """What an operator does before rotating: a new key before the old one."""
    newer = SecretKeyring({key_id: NEW_KEY})
    resources.key_wrapping = LocalWrapping(newer.followed_by(resources.key_wrapping.older))


async def make_older(resources: Resources, made: dict[str, Any]) -> None:
    """Seal an instance's secrets as it was done before there were data keys."""
    keyring, key = resources.keyring, f"system:{WEATHER}@1.0.0"
    async with resources.database() as session:
        (config,) = await session.scalars(select(LLMConfig))
        config.sealed_api_key = keyring.seal(API_KEY, **api_key_place(config.id))
        row = await session.get_one(Orchestrator, UUID(made["instance_id"]))
        sealed = keyring.seal(f'"{CANARY}"', **plugin_setting_place(row.id, key, "api_key"))
        row.plugin_settings = {key: {"api_key": {SEALED_FIELD: sealed}}}
        await session.commit()


async def test_each_organization_has_a_data_key_and_sees_no_other(
    shop: Workshop, world: World, resources: Resources
) -> None:
    other = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    await orchestrator(shop)
    (mine,), (theirs,) = await keys_of(resources, shop.tenant.org_id), await keys_of(resources, other.tenant.org_id)

    assert mine.wrapped_key.startswith("v1.k1.")
    assert all(text.startswith("v2.") for text in await sealed_texts(resources))
    async with resources.database(UUID(other.tenant.org_id)) as session:
        assert (await session.scalars(select(DataKey.id))).all() == [theirs.id]
        assert (await session.execute(update(DataKey).values(generation=9))).rowcount == 1  # type: ignore[attr-defined]
        await session.rollback()
        # Asked for somebody else's it makes none, and finds none.
        keyring = await data_keys(session, resources).opening(UUID(shop.tenant.org_id))
    with pytest.raises(SecretUnreadable):
        _ = keyring.newest


async def test_simultaneous_firsts_make_one_key(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    body = {"provider": "openai", "api_key": API_KEY, "model_name": "m"}

    answers = await asyncio.gather(
        *(tenant.admin.post(f"{tenant.path}/llm-configs", {**body, "name": f"c{i}"}) for i in range(8))
    )

    assert {answer.status_code for answer in answers} == {201}
    (key,) = await keys_of(resources, tenant.org_id)
    assert {text.split(".")[1] for text in await sealed_texts(resources)} == {key.id.hex}


async def test_rotation_brings_everything_under_the_newest_key(
    shop: Workshop, http: httpx.AsyncClient, resources: Resources
) -> None:
    made = await orchestrator(shop)
    await make_older(resources, made)
    before = await shop.admin.get(shop.at(made))
    assert await readable(http, resources, made) == {API_KEY, f'"{CANARY}"'}
    add_key(resources)

    report = await rotated(resources)

    assert (report.newest, report.not_needed, report.unreadable) == ("k2", ("k1",), 0)
    assert report.needed == {"k2": len(await keys_of(resources, shop.tenant.org_id))}
    assert all(text.startswith("v2.") for text in await sealed_texts(resources))
    # The old key is taken away.
    resources.key_wrapping = LocalWrapping(SecretKeyring({"k2": NEW_KEY}))
    assert await readable(http, resources, made) == {API_KEY, f'"{CANARY}"'}
    after = await shop.admin.get(shop.at(made))
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])
    again = await rotated(resources)
    assert (again.wrapped, again.sealed, again.retired, again.not_needed) == (0, 0, 0, ())


async def test_resealing_replaces_the_data_keys_as_well(
    shop: Workshop, http: httpx.AsyncClient, resources: Resources
) -> None:
    made = await orchestrator(shop)
    (old,) = await keys_of(resources, shop.tenant.org_id)

    report = await rotated(resources, reseal=True)

    (new,) = await keys_of(resources, shop.tenant.org_id)
    assert new.id != old.id
    assert report.retired >= 1
    assert {text.split(".")[1] for text in await sealed_texts(resources)} == {new.id.hex}
    assert await readable(http, resources, made) == {API_KEY, f'"{CANARY}"'}


async def test_a_rotation_that_broke_off_is_finished_by_the_next(
    shop: Workshop, http: httpx.AsyncClient, resources: Resources
) -> None:
    made = await orchestrator(shop)
    (old,) = await keys_of(resources, shop.tenant.org_id)

    class BrokeOff(Exception):
        pass

    def break_off(progress: Progress) -> None:
        if progress.step == "seal":
            raise BrokeOff

    with pytest.raises(BrokeOff):
        await Rotation(resources.database, resources.key_wrapping, reseal=True, tell=break_off).run()
    assert await readable(http, resources, made) == {API_KEY, f'"{CANARY}"'}

    await rotated(resources, reseal=True)

    (new,) = await keys_of(resources, shop.tenant.org_id)
    assert (new.id != old.id, new.generation) == (True, old.generation + 1)
    assert await readable(http, resources, made) == {API_KEY, f'"{CANARY}"'}


async def test_a_key_that_still_wraps_something_unreadable_here_is_told_as_needed(
    shop: Workshop, resources: Resources
) -> None:
    resources.key_wrapping = LocalWrapping(SecretKeyring({"k2": NEW_KEY}))

    report = await rotated(resources)

    assert report.unreadable > 0
    assert report.needed["k1"] >= 1
    assert report.not_needed == ()


async def test_credentials_change_while_keys_are_rotated_and_none_is_lost(
    shop: Workshop, http: httpx.AsyncClient, resources: Resources
) -> None:
    made = [await orchestrator(shop)]
    path = f"{shop.tenant.path}/llm-configs/{shop.llm_config_id}"
    is_over = asyncio.Event()
    statuses: list[int] = []
    last = API_KEY

    async def change() -> None:
        nonlocal last
        number = 0
        while not is_over.is_set():
            number += 1
            last = f"sk-changed-{number:04}"
            statuses.append((await shop.admin.patch(path, {"api_key": last})).status_code)
            settings = {"plugin_settings": {WEATHER: {"retries": number}}}
            statuses.append((await shop.admin.patch(shop.at(made[0], "/plugin-settings"), settings)).status_code)

    changing = asyncio.create_task(change())
    add_key(resources)
    for _ in range(3):
        await rotated(resources, reseal=True)
    is_over.set()
    await changing

    assert len(statuses) > 6
    assert set(statuses) == {200}
    assert await readable(http, resources, made[0]) == {last, f'"{CANARY}"'}
    final = await rotated(resources, reseal=True)
    assert final.unreadable == 0
    assert await readable(http, resources, made[0]) == {last, f'"{CANARY}"'}


async def test_deleting_an_organization_shreds_what_opens_its_secrets(
    shop: Workshop, root: Caller, resources: Resources, http: httpx.AsyncClient
) -> None:
    made = await orchestrator(shop)
    saved_texts = await sealed_texts(resources)
    assert len(saved_texts) == 2

    answer = await root.delete(f"/api/admin/orgs/{shop.tenant.org_id}")

    assert answer.status_code == 204, answer.text
    assert await keys_of(resources, shop.tenant.org_id) == []
    assert await sealed_texts(resources) == saved_texts, "the rows stay, and say nothing any more"
    async with resources.database() as session:
        keyring = await data_keys(session, resources).opening(UUID(shop.tenant.org_id))
    for text in saved_texts:
        with pytest.raises(SecretUnreadable):
            keyring.open(text, **api_key_place(UUID(shop.llm_config_id)))
    assert (await rotated(resources, reseal=True)).unreadable == 0
    assert await keys_of(resources, shop.tenant.org_id) == []
    assert made


async def test_what_was_sealed_before_there_were_data_keys_is_blanked_with_its_organization(
    shop: Workshop, root: Caller, resources: Resources
) -> None:
    await make_older(resources, await orchestrator(shop))

    await root.delete(f"/api/admin/orgs/{shop.tenant.org_id}")

    assert await sealed_texts(resources) == []


async def test_a_key_made_for_a_deleted_organization_is_refused(
    shop: Workshop, root: Caller, resources: Resources
) -> None:
    await root.delete(f"/api/admin/orgs/{shop.tenant.org_id}")
    async with resources.database() as session:
        with pytest.raises(Exception, match="Not found"):
            await data_keys(session, resources).sealing(UUID(shop.tenant.org_id))


async def test_a_wrapped_key_is_worth_nothing_under_another_id(shop: Workshop, resources: Resources) -> None:
    (key,) = await keys_of(resources, shop.tenant.org_id)
    assert wrapped_by(key.wrapped_key) == "k1"
    with pytest.raises(SecretUnreadable):
        await resources.key_wrapping.unwrap(WrappedDataKey(new_id(), key.wrapped_key))
