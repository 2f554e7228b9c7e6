"""Whatever is sealed comes back, and nothing else does."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config_hash import canonical_json, config_hash
from shared.errors import SecretUnreadable
from shared.secrets import SecretKeyring

KEYRING = SecretKeyring({"k": bytes(range(32))})
PLACE = {"table": "t", "column": "c", "row_id": "1"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
SECRETS = st.text(st.characters(exclude_categories=["Cs"]))


@given(SECRETS)
def test_any_text_can_be_sealed(secret: str) -> None:
    assert KEYRING.open(KEYRING.seal(secret, **PLACE), **PLACE) == secret


@given(SECRETS, st.data())
def test_a_changed_ciphertext_never_opens(secret: str, data: st.DataObject) -> None:
    head, _, encoded = KEYRING.seal(secret, **PLACE).rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(encoded))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SecretUnreadable):
        KEYRING.open(f"{head}.{base64.urlsafe_b64encode(raw).decode()}", **PLACE)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_the_order_of_keys_never_changes_a_hash(config: dict[str, object]) -> None:
    backwards = dict(reversed(list(config.items())))

    assert config_hash(config) == config_hash(backwards)
    assert json.loads(canonical_json(config)) == config
