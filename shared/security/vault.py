"""Key-encryption keys in a key service: the transit engine of HashiCorp Vault or OpenBao, over its HTTP API.

The key-encryption key never leaves the service. What it wraps is kept as `vault:<key name>:v<version>:<ciphertext>`,
bound to the data key's id as associated data, for which the key has to be one of an AEAD cipher (the default is).
"""

import asyncio
import base64
import time
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

from shared.errors import KeyServiceUnavailable, SecretUnreadable
from shared.secrets import SecretKeyring
from shared.security.data_keys import decoded_key, encoded_key
from shared.security.key_wrapping import SERVICE_PREFIX, LocalWrapping
from shared.settings import VaultSettings
from shared.snapshots import WrappedDataKey

REQUEST_SECONDS = 3.0
KEPT_SECONDS = 300.0
"""How long an unwrapped key is kept here, so that instances are built without asking each time."""

KEPT_KEYS = 1000


class VaultTransit:
    """Wraps with the service; what local keys wrapped before is still opened by those."""

    def __init__(self, settings: VaultSettings, local: LocalWrapping) -> None:
        self._settings = settings
        self._local = local
        self._session: ClientSession | None = None
        self._kept: dict[WrappedDataKey, tuple[float, bytes]] = {}

    @property
    def older(self) -> SecretKeyring:
        return self._local.older

    @property
    def held(self) -> tuple[str, ...]:
        return self._local.held

    async def newest(self) -> str:
        name = self._settings.key_name
        data = await self._call("GET", f"keys/{name}", None)
        return f"{SERVICE_PREFIX}{name}:v{data['latest_version']}"

    async def wrap(self, key: bytes, data_key_id: UUID) -> str:
        # The service takes base64 of anything; inside is the same text that local keys wrap.
        plain = base64.b64encode(encoded_key(key).encode()).decode()
        body = {"plaintext": plain, "associated_data": _associated(data_key_id)}
        data = await self._call("POST", f"encrypt/{self._settings.key_name}", body)
        # "vault:v1:…" becomes "vault:<key name>:v1:…", so that a row tells where its key is.
        return f"{SERVICE_PREFIX}{self._settings.key_name}:{str(data['ciphertext']).removeprefix(SERVICE_PREFIX)}"

    async def unwrap(self, data_key: WrappedDataKey) -> bytes:
        if not data_key.wrapped.startswith(SERVICE_PREFIX):
            return await self._local.unwrap(data_key)
        kept = self._kept.get(data_key)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        name, _, ciphertext = data_key.wrapped.removeprefix(SERVICE_PREFIX).partition(":")
        body = {"ciphertext": SERVICE_PREFIX + ciphertext, "associated_data": _associated(data_key.id)}
        data = await self._call("POST", f"decrypt/{name}", body)
        try:
            key = decoded_key(base64.b64decode(data["plaintext"]).decode())
        except (ValueError, KeyError):
            raise SecretUnreadable("what the key service unwrapped is not a data key") from None
        while len(self._kept) >= KEPT_KEYS:
            del self._kept[next(iter(self._kept))]
        self._kept[data_key] = (time.monotonic() + KEPT_SECONDS, key)
        return key

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, path: str, body: dict[str, str] | None) -> dict[str, Any]:
        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=REQUEST_SECONDS))
        url = f"{self._settings.url}/v1/{self._settings.mount}/{path}"
        try:
            headers = {"X-Vault-Token": await self._token(), "X-Vault-Request": "true"}
            async with self._session.request(method, url, json=body, headers=headers, allow_redirects=False) as answer:
                content = await answer.read()
        except (ClientError, OSError, TimeoutError) as error:
            raise KeyServiceUnavailable(f"the key service does not answer ({type(error).__name__})") from None
        if answer.status in (400, 404):
            # What it says of that repeats what it was sent.
            raise SecretUnreadable("the key service refuses the data key, or has no such key-encryption key")
        if answer.status != 200:
            raise KeyServiceUnavailable(f"the key service answered {answer.status}")
        try:
            return dict(msgspec.json.decode(content)["data"])
        except (msgspec.DecodeError, KeyError, TypeError):
            raise KeyServiceUnavailable("the key service's answer cannot be read") from None

    async def _token(self) -> str:
        if self._settings.token_file is None:
            return self._settings.token
        return (await asyncio.to_thread(self._settings.token_file.read_text)).strip()


def _associated(data_key_id: UUID) -> str:
    return base64.b64encode(data_key_id.bytes).decode()
