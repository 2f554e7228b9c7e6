"""Sealing: AES-256-GCM, bound to the place that a value is stored in.

A sealed value is text: `v1.<key id>.<base64url(nonce ‖ ciphertext ‖ tag)>`. The associated data names table, column and
row, so a ciphertext copied into another row or column does not open. Keys rotate by putting a new one first.

The keys here are key-encryption keys: they wrap the data keys that seal secrets (`shared.security.data_keys`).
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import ConfigurationInvalid, SecretUnreadable
from shared.weak_secrets import weakness_of_key

NONCE_BYTES = 12
KEY_BYTES = 32
_VERSION = "v1"


class SecretKeyring:
    """Opens what any of its keys sealed; seals with the first. Without any key it does neither."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            if len(key) != KEY_BYTES:
                raise ConfigurationInvalid(f"encryption key {key_id!r} has {len(key)} bytes, needs {KEY_BYTES}")
        self._keys = dict(keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """Newest first."""
        return tuple(self._keys)

    @property
    def newest(self) -> str:
        """The id of the key that seals. Raises ConfigurationInvalid without any key."""
        if not self._keys:
            raise ConfigurationInvalid("there is no encryption key to seal with")
        return next(iter(self._keys))

    @property
    def weakness(self) -> str | None:
        """What is wrong with one of the keys, without repeating it."""
        return next((found for key in self._keys.values() if (found := weakness_of_key(key))), None)

    def followed_by(self, older: "SecretKeyring") -> "SecretKeyring":
        """The keys of both, these first."""
        return SecretKeyring({**self._keys, **{i: key for i, key in older._keys.items() if i not in self._keys}})

    @classmethod
    def parse(cls, text: str) -> "SecretKeyring":
        """From `id:hex64,id:hex64`, newest first. Raises ConfigurationInvalid without repeating any key."""
        keys: dict[str, bytes] = {}
        for position, part in enumerate(filter(None, (p.strip() for p in text.split(","))), start=1):
            key_id, _, hex_key = part.partition(":")
            if not key_id or "." in key_id or key_id in keys:
                raise ConfigurationInvalid(f"encryption key {position}: the id is missing, repeated or holds a dot")
            try:
                keys[key_id] = bytes.fromhex(hex_key)
            except ValueError:
                keys[key_id] = b""
            if len(keys[key_id]) != KEY_BYTES:
                # By position: with the id left out or put last, what stands for the id is the key.
                message = f"encryption key {position} is not an id, a colon and {2 * KEY_BYTES} hexadecimal digits"
                raise ConfigurationInvalid(message)
        if not keys:
            raise ConfigurationInvalid("needs at least one key")
        return cls(keys)

    def seal(self, secret: str, *, table: str, column: str, row_id: object) -> str:
        """Encrypt `secret` for exactly this table, column and row."""
        key_id = self.newest
        return f"{_VERSION}.{key_id}.{seal_at(self._keys[key_id], secret, table, column, row_id)}"

    def open(self, sealed: str, *, table: str, column: str, row_id: object) -> str:
        """Decrypt what `seal` made for the same place. Raises SecretUnreadable."""
        version, _, rest = sealed.partition(".")
        key_id, _, encoded = rest.partition(".")
        key = self._keys.get(key_id)
        if version != _VERSION or key is None:
            raise SecretUnreadable(f"a secret in {table}.{column} was sealed with a key this process does not hold")
        return open_at(key, encoded, table, column, row_id)


def key_id_of(sealed: str) -> str:
    """The id of the key of a keyring that sealed a value."""
    return sealed.partition(".")[2].partition(".")[0]


def seal_at(key: bytes, secret: str, table: str, column: str, row_id: object) -> str:
    """base64url(nonce ‖ ciphertext ‖ tag) of `secret` for exactly this place."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, secret.encode(), _place(table, column, row_id))
    return base64.urlsafe_b64encode(sealed).decode()


def open_at(key: bytes, encoded: str, table: str, column: str, row_id: object) -> str:
    """Undo `seal_at`. Raises SecretUnreadable."""
    try:
        raw = base64.urlsafe_b64decode(encoded)
        return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _place(table, column, row_id)).decode()
    except (InvalidTag, binascii.Error, ValueError):
        raise SecretUnreadable(f"a secret in {table}.{column} does not belong to its row") from None


def fingerprint(secret: str) -> str:
    """The first 16 hex digits of the SHA-256 of a secret: tells two keys apart without holding either.

    Keys of model providers are long and random, so a truncated plain hash gives nothing away.
    """
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def _place(table: str, column: str, row_id: object) -> bytes:
    return f"{table}\x1f{column}\x1f{row_id}".encode()
