"""Envelope encryption: each organization's secrets are sealed with a data key of its own, which is stored wrapped.

A sealed value is text: `v2.<id of the data key, 32 hex digits>.<base64url(nonce ‖ ciphertext ‖ tag)>`, bound to its
place as in `shared.secrets`. What was sealed before there were data keys (`v1`) is opened by the keyring itself.
"""

import base64
import os
from collections.abc import Iterable, Mapping
from typing import Protocol
from uuid import UUID

from shared.errors import SecretUnreadable
from shared.secrets import KEY_BYTES, SecretKeyring, open_at, seal_at

_VERSION = "v2"


class Opener(Protocol):
    """Opens sealed values. Raises SecretUnreadable."""

    def open(self, sealed: str, *, table: str, column: str, row_id: object) -> str: ...


class DataKeyring:
    """Opens what any of the data keys sealed, and what `older` did; seals with the last of the data keys."""

    def __init__(self, keys: Mapping[UUID, bytes], *, older: SecretKeyring) -> None:
        self._keys = dict(keys)
        self._older = older

    @property
    def newest(self) -> UUID:
        """The id of the data key that seals. Raises SecretUnreadable without any."""
        if not self._keys:
            raise SecretUnreadable("there is no data key")
        return next(reversed(self._keys))

    def seal(self, secret: str, *, table: str, column: str, row_id: object) -> str:
        """Encrypt `secret` for exactly this table, column and row."""
        key_id = self.newest
        return f"{_VERSION}.{key_id.hex}.{seal_at(self._keys[key_id], secret, table, column, row_id)}"

    def open(self, sealed: str, *, table: str, column: str, row_id: object) -> str:
        """Decrypt what was sealed for the same place. Raises SecretUnreadable."""
        key_id = data_key_of(sealed)
        if key_id is None:
            return self._older.open(sealed, table=table, column=column, row_id=row_id)
        key = self._keys.get(key_id)
        if key is None:
            raise SecretUnreadable(f"the data key of a secret in {table}.{column} is not there any more")
        return open_at(key, sealed.rpartition(".")[2], table, column, row_id)


def new_data_key() -> bytes:
    return os.urandom(KEY_BYTES)


def data_key_of(sealed: str) -> UUID | None:
    """The data key that a value was sealed with; None when it was sealed by a key-encryption key itself."""
    version, _, rest = sealed.partition(".")
    if version != _VERSION:
        return None
    try:
        return UUID(rest.partition(".")[0])
    except ValueError:
        raise SecretUnreadable("a sealed value names no data key") from None


def data_keys_of(sealed: Iterable[str]) -> set[UUID]:
    """All data keys that the values need."""
    return {key_id for value in sealed if value and (key_id := data_key_of(value)) is not None}


def encoded_key(key: bytes) -> str:
    return base64.b64encode(key).decode()


def decoded_key(text: str) -> bytes:
    """Raises SecretUnreadable for what is not a key."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SecretUnreadable("what was unwrapped is not a data key")
    return key
