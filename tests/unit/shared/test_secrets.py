"""Sealing."""

import pytest

from shared.errors import ConfigurationInvalid, SecretUnreadable
from shared.secrets import SecretKeyring, fingerprint

OLD, NEW = "old:" + "11" * 32, "new:" + "22" * 32
PLACE = {"table": "t", "column": "c", "row_id": "1"}


def test_a_secret_opens_in_its_own_place_only() -> None:
    keyring = SecretKeyring.parse(OLD)
    sealed = keyring.seal("s3cret ✓", **PLACE)

    assert keyring.open(sealed, **PLACE) == "s3cret ✓"
    assert "s3cret" not in sealed
    for moved in ({**PLACE, "row_id": "2"}, {**PLACE, "column": "d"}, {**PLACE, "table": "u"}):
        with pytest.raises(SecretUnreadable):
            keyring.open(sealed, **moved)


def test_the_same_secret_never_seals_to_the_same_text() -> None:
    keyring = SecretKeyring.parse(OLD)

    assert keyring.seal("x", **PLACE) != keyring.seal("x", **PLACE)


def test_keys_rotate_newest_first() -> None:
    sealed_before = SecretKeyring.parse(OLD).seal("x", **PLACE)
    both = SecretKeyring.parse(f"{NEW},{OLD}")

    assert both.open(sealed_before, **PLACE) == "x"
    assert both.seal("x", **PLACE).split(".")[1] == "new"
    with pytest.raises(SecretUnreadable):
        SecretKeyring.parse(NEW).open(sealed_before, **PLACE)


@pytest.mark.parametrize("sealed", ["", "v1", "v1.old", "v1.old.", "v1.old.%%%", "v2.old.AAAA", "v1.old." + "A" * 80])
def test_what_was_never_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(SecretUnreadable):
        SecretKeyring.parse(OLD).open(sealed, **PLACE)


@pytest.mark.parametrize(
    "text",
    ["", "id", ":" + "11" * 32, "a:zz", "a:1122", "11" * 32, "11" * 32 + ":a", f"{OLD},{OLD}", "a.b:" + "11" * 32],
)
def test_bad_keys_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refusal:
        SecretKeyring.parse(text)

    assert "11" * 8 not in str(refusal.value)


def test_fingerprints_tell_keys_apart() -> None:
    assert fingerprint("a") != fingerprint("b")
    assert len(fingerprint("a")) == 16
