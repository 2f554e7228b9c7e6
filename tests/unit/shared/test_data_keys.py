"""Data keys: whose secrets they open, and who wraps them."""

import os
from pathlib import Path

import pytest

from shared.errors import ConfigurationInvalid, SecretUnreadable
from shared.ids import new_id
from shared.secrets import SecretKeyring
from shared.security.data_keys import DataKeyring, data_keys_of, new_data_key
from shared.security.key_wrapping import LocalWrapping, data_keyring, wrapped_by
from shared.snapshots import WrappedDataKey

OLD, NEW = "old:" + "11" * 32, "new:" + "22" * 32
PLACE = {"table": "t", "column": "c", "row_id": "1"}
NO_KEYS = SecretKeyring({})


def keyring() -> DataKeyring:
    return DataKeyring({new_id(): new_data_key()}, older=NO_KEYS)


def test_what_one_organization_sealed_another_cannot_open() -> None:
    theirs, mine = keyring(), keyring()
    sealed = theirs.seal("s3cret", **PLACE)

    assert theirs.open(sealed, **PLACE) == "s3cret"
    assert data_keys_of([sealed, ""]) == {theirs.newest}
    with pytest.raises(SecretUnreadable):
        mine.open(sealed, **PLACE)
    with pytest.raises(SecretUnreadable):
        mine.open(sealed.replace(theirs.newest.hex, mine.newest.hex), **PLACE)
    with pytest.raises(SecretUnreadable):
        theirs.open(sealed, **{**PLACE, "row_id": "2"})


@pytest.mark.parametrize("sealed", ["", "v2", "v2.", "v2.zz.AAAA", "v2." + "0" * 32 + ".AAAA", "v3.a.b"])
def test_what_was_never_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(SecretUnreadable):
        keyring().open(sealed, **PLACE)


def test_what_was_sealed_before_there_were_data_keys_stays_readable() -> None:
    older = SecretKeyring.parse(OLD)
    sealed = older.seal("s3cret", **PLACE)

    both = DataKeyring({new_id(): new_data_key()}, older=older)

    assert both.open(sealed, **PLACE) == "s3cret"
    assert both.open(both.seal("x", **PLACE), **PLACE) == "x"


async def test_a_wrapped_key_opens_for_its_own_id_only() -> None:
    wrapping, key_id = LocalWrapping(SecretKeyring.parse(OLD)), new_id()
    key = new_data_key()
    wrapped = await wrapping.wrap(key, key_id)

    assert await wrapping.unwrap(WrappedDataKey(key_id, wrapped)) == key
    assert wrapped_by(wrapped) == "old"
    with pytest.raises(SecretUnreadable):
        await wrapping.unwrap(WrappedDataKey(new_id(), wrapped))
    with pytest.raises(SecretUnreadable):
        await LocalWrapping(SecretKeyring.parse(NEW)).unwrap(WrappedDataKey(key_id, wrapped))
    with pytest.raises(SecretUnreadable):
        await wrapping.unwrap(WrappedDataKey(key_id, "vault:cadence:v1:AAAA"))


async def test_keys_of_a_file_are_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{OLD}\n")
    wrapping, key_id = LocalWrapping(NO_KEYS, file), new_id()
    wrapped = await wrapping.wrap(new_data_key(), key_id)

    replacement = tmp_path / "replacement"
    replacement.write_text(f"{NEW}\n{OLD}\n")
    replacement.replace(file)

    assert await wrapping.newest() == "new"
    assert list(wrapping.held) == ["new", "old"]
    keys = (WrappedDataKey(key_id, wrapped),)
    assert (await data_keyring(wrapping, keys)).newest == key_id
    # A file that somebody is writing, or that is away for a moment, takes no key away.
    file.write_text("new:11")
    assert list(wrapping.held) == ["new", "old"]
    file.unlink()
    assert list(wrapping.held) == ["new", "old"]
    file.write_text(NEW)
    os.utime(file, (1, 1))
    assert list(wrapping.held) == ["new"]


async def test_keys_of_a_file_come_before_those_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(NEW)

    wrapping = LocalWrapping(SecretKeyring.parse(OLD), file)

    assert wrapping.held == ("new", "old")
    assert await wrapping.newest() == "new"


async def test_without_any_key_nothing_is_wrapped() -> None:
    with pytest.raises(ConfigurationInvalid):
        await LocalWrapping(NO_KEYS).wrap(new_data_key(), new_id())
