"""Data keys wrapped by a key service."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import KeyServiceUnavailable, SecretUnreadable
from shared.ids import new_id
from shared.secrets import SecretKeyring
from shared.security.data_keys import new_data_key
from shared.security.key_wrapping import LocalWrapping, wrapped_by
from shared.security.vault import VaultTransit
from shared.settings import VaultSettings
from shared.snapshots import WrappedDataKey
from tests.fakes.vault import TOKEN, FakeVault

LOCAL = LocalWrapping(SecretKeyring.parse("k1:" + "11" * 32))


@pytest.fixture
async def vault() -> AsyncIterator[FakeVault]:
    async with FakeVault().running() as server:
        yield server


@pytest.fixture
async def transit(vault: FakeVault) -> AsyncIterator[VaultTransit]:
    wrapping = VaultTransit(VaultSettings(vault.url, "cadence", TOKEN), LOCAL)
    yield wrapping
    await wrapping.close()


async def test_a_data_key_goes_in_and_comes_out_for_its_own_id_only(vault: FakeVault, transit: VaultTransit) -> None:
    key, key_id = new_data_key(), new_id()
    wrapped = await transit.wrap(key, key_id)

    assert wrapped_by(wrapped) == await transit.newest() == "vault:cadence:v1"
    assert base64.b64encode(key).decode() not in wrapped
    assert await transit.unwrap(WrappedDataKey(key_id, wrapped)) == key
    with pytest.raises(SecretUnreadable):
        await transit.unwrap(WrappedDataKey(new_id(), wrapped))


async def test_a_key_of_the_service_that_was_rotated_there_wraps_anew_and_opens_what_is_older(
    vault: FakeVault, transit: VaultTransit
) -> None:
    key, key_id = new_data_key(), new_id()
    first = await transit.wrap(key, key_id)
    vault.rotate()

    second = await transit.wrap(key, key_id)

    assert await transit.newest() == wrapped_by(second) == "vault:cadence:v2"
    for wrapped in (first, second):
        assert await transit.unwrap(WrappedDataKey(key_id, wrapped)) == key


async def test_what_local_keys_wrapped_before_there_was_a_service_still_opens(transit: VaultTransit) -> None:
    key, key_id = new_data_key(), new_id()

    assert await transit.unwrap(WrappedDataKey(key_id, await LOCAL.wrap(key, key_id))) == key
    assert transit.held == ("k1",)


async def test_the_service_is_asked_once_for_a_key_that_is_used_often(vault: FakeVault, transit: VaultTransit) -> None:
    key_id = new_id()
    data_key = WrappedDataKey(key_id, await transit.wrap(new_data_key(), key_id))

    for _ in range(5):
        await transit.unwrap(data_key)

    assert [path for path, _ in vault.requests].count("/v1/transit/decrypt/cadence") == 1


async def test_a_service_that_is_away_or_sealed_is_told_as_such(vault: FakeVault, transit: VaultTransit) -> None:
    vault.is_sealed = True
    with pytest.raises(KeyServiceUnavailable):
        await transit.wrap(new_data_key(), new_id())
    nowhere = VaultTransit(VaultSettings("http://127.0.0.1:9", "cadence", TOKEN), LOCAL)
    try:
        with pytest.raises(KeyServiceUnavailable) as refusal:
            await nowhere.newest()
    finally:
        await nowhere.close()
    assert TOKEN not in refusal.value.detail


async def test_the_token_is_read_anew_when_an_agent_renewed_it(vault: FakeVault, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("expired")
    wrapping = VaultTransit(VaultSettings(vault.url, "cadence", token_file=file), LOCAL)
    try:
        with pytest.raises(KeyServiceUnavailable):
            await wrapping.newest()
        file.write_text(f"{TOKEN}\n")
        assert await wrapping.newest() == "vault:cadence:v1"
    finally:
        await wrapping.close()
