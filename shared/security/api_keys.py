"""API keys: `cdk_` and 64 characters that hold who owns the key and 256 random bits. Only a hash of a key is stored.

The owner's id travels in the key so that one question to Redis gets everything about a caller: the key's record, the
owner's grant and their generations. A cached record dies with the owner's generation, as grants do (decision 0003).
"""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from shared.security.grants import Grant
from shared.security.permissions import Permission

PREFIX = "cdk_"
_OWNER_BYTES = 16
_SECRET_BYTES = 32
RECORD_SECONDS = 300
"""How long an unused record stays cached; correctness never depends on it."""

UNKNOWN_SECONDS = 30
"""How long it is remembered that there is no such key: whoever makes up keys must not fill Redis with them."""


class PresentedKey(msgspec.Struct, frozen=True):
    """A key as it came in: whose it says it is, and the hash to find it by (SHA-256; the secret is random)."""

    user_id: UUID
    digest: str


class APIKeyRecord(msgspec.Struct, frozen=True):
    """What a key may do at most: these scopes, until then, and in this organization alone where one is named.

    `budget_micros` is what runs begun with it may cost in a month, in millionths of a US dollar. `budget_id` is the
    first of the keys that it replaces, None when it replaces none: what they have spent, it has.
    """

    key_id: UUID
    user_id: UUID
    org_id: UUID | None
    scopes: tuple[Permission, ...]
    expires_at: datetime | None
    budget_micros: int | None = None
    budget_id: UUID | None = None

    @property
    def charged_to(self) -> UUID:
        """What the cost of its runs is counted under."""
        return self.budget_id or self.key_id

    def narrow(self, grant: Grant) -> Grant:
        """The owner's grant, reduced to what the key may do. Outside its organization that is nothing at all."""
        if self.org_id is not None and self.org_id != grant.org_id:
            return grant.of_nobody_here()
        return grant.narrowed(frozenset(self.scopes))


APIKeyLoader = Callable[[str], Awaitable[APIKeyRecord | None]]
"""Reads a record from the truth by its hash: a query in the control plane, `GET /internal/api-keys/…` in a worker."""


class _CachedKey(msgspec.Struct, frozen=True):
    user_generation: int
    record: APIKeyRecord | None


def new_key(user_id: UUID) -> str:
    """A key for this owner. Nobody can be shown it a second time."""
    raw = user_id.bytes + secrets.token_bytes(_SECRET_BYTES)
    return PREFIX + base64.urlsafe_b64encode(raw).decode()


def read_key(text: str) -> PresentedKey | None:
    """None for what cannot be a key."""
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if not text.startswith(PREFIX) or len(raw) != _OWNER_BYTES + _SECRET_BYTES:
        return None
    return PresentedKey(UUID(bytes=raw[:_OWNER_BYTES]), hashlib.sha256(raw).hexdigest())


class APIKeyCache:
    def __init__(self, redis: "Redis", load: APIKeyLoader) -> None:
        self._redis = redis
        self._load = load
        self._decoder = msgspec.json.Decoder(_CachedKey)

    def key(self, presented: PresentedKey) -> str:
        """What `read` wants the value of."""
        return f"api_key:{presented.digest}"

    async def read(self, presented: PresentedKey, raw: bytes | None, user_generation: int) -> APIKeyRecord | None:
        """The record of a key, None when there is none. `user_generation` is the owner's, read together with `raw`."""
        if raw is not None:
            cached = self._decoder.decode(raw)
            if cached.user_generation == user_generation:
                return cached.record
        record = await self._load(presented.digest)
        entry = _CachedKey(user_generation, record)
        seconds = UNKNOWN_SECONDS if record is None else RECORD_SECONDS
        await self._redis.set(self.key(presented), msgspec.json.encode(entry), ex=seconds)
        return record
