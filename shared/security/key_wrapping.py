"""Wrapping of data keys with a key-encryption key: one port, and the keys that this process holds itself."""

import asyncio
from pathlib import Path
from typing import Protocol
from uuid import UUID

from shared.errors import ConfigurationInvalid, SecretUnreadable
from shared.logging import get_logger
from shared.secrets import SecretKeyring, key_id_of
from shared.security.data_keys import DataKeyring, decoded_key, encoded_key
from shared.snapshots import WrappedDataKey

log = get_logger(__name__)

SERVICE_PREFIX = "vault:"
_PLACE = {"table": "data_keys", "column": "wrapped_key"}


class KeyWrapping(Protocol):
    """Where key-encryption keys are. A wrapped key opens for its own id only."""

    @property
    def older(self) -> SecretKeyring:
        """What opens secrets that were sealed before there were data keys."""
        ...

    @property
    def held(self) -> tuple[str, ...]:
        """The ids of the key-encryption keys that are in this process's configuration; none of a service's."""
        ...

    async def newest(self) -> str:
        """The id of the key that wraps. Raises KeyServiceUnavailable."""
        ...

    async def wrap(self, key: bytes, data_key_id: UUID) -> str:
        """Raises KeyServiceUnavailable."""
        ...

    async def unwrap(self, data_key: WrappedDataKey) -> bytes:
        """Raises SecretUnreadable, KeyServiceUnavailable."""
        ...

    async def close(self) -> None: ...


class LocalWrapping:
    """Keys of this process: from the environment and, before those, from a file, which is read again when it changes.

    With a file keys are rotated without starting any process anew.
    """

    def __init__(self, keyring: SecretKeyring, file: Path | None = None) -> None:
        self._given = keyring
        self._file = file
        self._read_at: tuple[int, int] | None = None
        self._keyring = keyring

    @property
    def older(self) -> SecretKeyring:
        return self._current()

    @property
    def held(self) -> tuple[str, ...]:
        return self._current().ids

    async def newest(self) -> str:
        return self._current().newest

    async def wrap(self, key: bytes, data_key_id: UUID) -> str:
        return self._current().seal(encoded_key(key), **_PLACE, row_id=data_key_id)

    async def unwrap(self, data_key: WrappedDataKey) -> bytes:
        if data_key.wrapped.startswith(SERVICE_PREFIX):
            raise SecretUnreadable("a data key was wrapped by a key service that this process is not told of")
        return decoded_key(self._current().open(data_key.wrapped, **_PLACE, row_id=data_key.id))

    async def close(self) -> None:
        return None

    def _current(self) -> SecretKeyring:
        """A file that is away or bad for a moment leaves the keys that were read before."""
        if self._file is None:
            return self._keyring
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._read_at:
                self._keyring = read_keys(self._file).followed_by(self._given)
                self._read_at = stamp
        except (OSError, ConfigurationInvalid) as error:
            if self._read_at is None:
                raise
            log.error("encryption_keys_not_read", reason=type(error).__name__)
        return self._keyring


def read_keys(file: Path) -> SecretKeyring:
    """Keys as in `CADENCE_ENCRYPTION_KEYS`, separated by commas or lines. Raises OSError, ConfigurationInvalid."""
    return SecretKeyring.parse(file.read_text().replace("\n", ","))


def wrapped_by(wrapped: str) -> str:
    """The id of the key-encryption key that wrapped a data key: `k1`, or `vault:<key>:v3`."""
    if wrapped.startswith(SERVICE_PREFIX):
        _, name, version, _ = wrapped.split(":", 3)
        return f"vault:{name}:{version}"
    return key_id_of(wrapped)


async def data_keyring(wrapping: KeyWrapping, keys: tuple[WrappedDataKey, ...]) -> DataKeyring:
    """What opens the values that these keys sealed, the last of them being the newest.

    Raises SecretUnreadable, KeyServiceUnavailable.
    """
    if len(keys) == 1:
        # Nearly all have one, and a task for it would cost as much as the unwrapping.
        unwrapped = [await wrapping.unwrap(keys[0])]
    else:
        unwrapped = await asyncio.gather(*(wrapping.unwrap(key) for key in keys))
    return DataKeyring(dict(zip((key.id for key in keys), unwrapped, strict=True)), older=wrapping.older)
