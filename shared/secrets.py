"""Sealing of stored secrets: AES-256-GCM, bound to the place they are stored in.

A sealed value is text: `v1.<key id>.<base64url(nonce ‖ ciphertext ‖ tag)>`. The associated data names table, column and
row, so a ciphertext copied into another row or column does not open. Keys rotate by putting a new one first.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import ConfigurationInvalid, SecretUnreadable

NONCE_BYTES = 12
KEY_BYTES = 32
_VERSION = "v1"


class SecretKeyring:
    """Opens what any of its keys sealed; seals with the first."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ConfigurationInvalid("CADENCE_ENCRYPTION_KEYS needs at least one key")
        for key_id, key in keys.items():
            if len(key) != KEY_BYTES:
                raise ConfigurationInvalid(f"encryption key {key_id!r} has {len(key)} bytes, needs {KEY_BYTES}")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._newest = next(iter(keys))

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
        return cls(keys)

    def seal(self, secret: str, *, table: str, column: str, row_id: object) -> str:
        """Encrypt `secret` for exactly this table, column and row."""
        nonce = os.urandom(NONCE_BYTES)
        place = _place(table, column, row_id)
        sealed = nonce + self._ciphers[self._newest].encrypt(nonce, secret.encode(), place)
        return f"{_VERSION}.{self._newest}.{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, sealed: str, *, table: str, column: str, row_id: object) -> str:
        """Decrypt what `seal` made for the same place. Raises SecretUnreadable."""
        version, _, rest = sealed.partition(".")
        key_id, _, encoded = rest.partition(".")
        cipher = self._ciphers.get(key_id)
        if version != _VERSION or cipher is None:
            raise SecretUnreadable(f"a secret in {table}.{column} was sealed with a key this process does not hold")
        try:
            raw = base64.urlsafe_b64decode(encoded)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _place(table, column, row_id)).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise SecretUnreadable(f"a secret in {table}.{column} does not belong to its row") from None


def fingerprint(secret: str) -> str:
    """The first 16 hex digits of the SHA-256 of a secret: tells two keys apart without holding either.

    Keys of model providers are long and random, so a truncated plain hash gives nothing away.
    """
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def _place(table: str, column: str, row_id: object) -> bytes:
    return f"{table}\x1f{column}\x1f{row_id}".encode()
