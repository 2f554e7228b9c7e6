"""`Idempotency-Key` on a completion: a request that is sent again gets the run that it began the first time.

The key is claimed with the run's id before the run begins, per caller and for a day. Of two requests at once one begins
a run and the other follows it; whichever worker they reach.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.turn.run_lookup import RunLookup
from shared.errors import Conflict, FieldError, IdempotencyKeyReused, InvalidRequest, NotFound
from shared.security.grants import Grant

KEPT_SECONDS = 24 * 3600
CLAIM_SECONDS = 15
"""How long a key is kept for a run that does not begin, once nobody is beginning it any more: its worker was lost."""
RENEW_SECONDS = 3.0
BEGIN_SECONDS = 10.0
"""How long to wait for a run that an earlier request is just beginning."""
LOOK_SECONDS = 0.05

_STILL_BEGINNING = "a request with this Idempotency-Key is still beginning; try again in a moment"
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,255}")
_GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end"


class RequestClaim(msgspec.Struct, frozen=True):
    """Where a request is remembered, and what tells it from another one under the same key."""

    place: str
    body_hash: str


class RepeatedRequests:
    def __init__(self, redis: "Redis", runs: RunLookup, secret_key: str) -> None:
        self._redis = redis
        self._runs = runs
        self._secret = secret_key.encode()
        self._beginning: set[str] = set()
        self._begun: set[str] = set()
        self._give_back = redis.register_script(_GIVE_BACK)

    def claim_of(self, grant: Grant, path: str, key: str, body: bytes) -> RequestClaim:
        """Raises InvalidRequest for a key that is none."""
        if not _ACCEPTABLE.fullmatch(key):
            message = "1 to 255 printable ASCII characters without spaces"
            raise InvalidRequest(errors=(FieldError("Idempotency-Key", "invalid", message),))
        # Keyed: whoever reads Redis must not learn a message by trying likely ones.
        body_hash = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        place = hashlib.sha256(f"{path}\n{key}".encode()).hexdigest()
        return RequestClaim(f"run_key:{grant.org_id}:{grant.user_id}:{place}", body_hash)

    async def take(self, claim: RequestClaim, run_id: UUID) -> UUID | None:
        """None when the run may begin, else the id of the one that has. Raises IdempotencyKeyReused.

        Whoever may begin it says `begun` or `give_back` afterwards.
        """
        value = _value(claim, run_id)
        kept = cast("bytes | None", await self._redis.set(claim.place, value, nx=True, get=True, ex=CLAIM_SECONDS))
        # Our own when the first answer was lost and the client of Redis asked again.
        if kept is None or kept == value.encode():
            self._beginning.add(claim.place)
            return None
        known, _, body_hash = kept.decode().partition(":")
        if body_hash != claim.body_hash:
            raise IdempotencyKeyReused
        return UUID(known)

    async def begun(self, claim: RequestClaim) -> None:
        """The run has begun: from now on the key means it. Never raises."""
        self._beginning.discard(claim.place)
        try:
            await self._redis.expire(claim.place, KEPT_SECONDS)
        except RedisError:
            self._begun.add(claim.place)

    async def run(self) -> None:
        """Keep the keys of runs that are just beginning, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(RedisError):
                for place in list(self._beginning):
                    await self._redis.expire(place, CLAIM_SECONDS)
                for place in list(self._begun):
                    await self._redis.expire(place, KEPT_SECONDS)
                    self._begun.discard(place)

    async def give_back(self, claim: RequestClaim, run_id: UUID) -> None:
        """The run did not begin."""
        self._beginning.discard(claim.place)
        await self._give_back(keys=[claim.place], args=[_value(claim, run_id)])

    async def until_begun(self, org_id: UUID, run_id: UUID) -> None:
        """Raises Conflict when the run does not begin in time."""
        try:
            async with asyncio.timeout(BEGIN_SECONDS):
                while True:
                    try:
                        await self._runs.get(org_id, run_id, user_id=None)
                    except NotFound:
                        await asyncio.sleep(LOOK_SECONDS)
                    else:
                        return
        except TimeoutError:
            raise Conflict(_STILL_BEGINNING) from None

    @contextmanager
    def following(self) -> Iterator[None]:
        """While the run of an earlier request is followed: that request may be refused after all, and its turn, which
        was stored already, withdrawn. Raises Conflict for NotFound: whoever asks again begins the run."""
        try:
            yield
        except NotFound:
            raise Conflict(_STILL_BEGINNING) from None


def _value(claim: RequestClaim, run_id: UUID) -> str:
    return f"{run_id}:{claim.body_hash}"
