"""`Idempotency-Key`: a POST that is sent again gets the answer of the first time, for 24 hours and per caller.

Claimed before the handler runs, so that of two requests at once only one does; stored before the answer is sent, so
that a client whose connection broke can ask again. Only successes are kept: what failed changed nothing.

An answer may hold a secret that is shown once, so it is sealed (AES-256-GCM): with a key that takes the caller's
`Idempotency-Key` to make, which is kept nowhere, and ours; bound to the place that it is kept at.
"""

import hashlib
import hmac
import re
import secrets
from typing import Any, Literal

import msgspec
from litestar import Response
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from redis.asyncio import Redis
from redis.exceptions import RedisError

from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import Principal
from control_plane.http.openapi import honours_idempotency_key
from control_plane.wiring import Resources
from shared.errors import Conflict, FieldError, IdempotencyKeyReused, InvalidRequest
from shared.logging import get_logger
from shared.secrets import open_at, seal_at

log = get_logger(__name__)

KEPT_SECONDS = 24 * 3600
CLAIM_SECONDS = 120
"""How long a request that died without a trace blocks its repetition."""

MAX_KEPT_BYTES = 256 * 1024
REPLAYED = "Idempotency-Replayed"
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,255}")
_CLAIM = "idempotency_claim"
_PLACE = {"table": "idempotency", "column": "sealed_body"}
_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end"


class _Entry(msgspec.Struct, frozen=True):
    """What Redis keeps under a key: first a claim, then the answer."""

    state: Literal["running", "done"]
    body_hash: str
    owner: str = ""
    status: int = 0
    headers: list[tuple[str, str]] = []
    sealed_body: str = ""
    about: list[str] = []
    """The ids in the answer, by which a purge finds it."""


class _Claim(msgspec.Struct, frozen=True):
    key: str
    raw: bytes
    body_hash: str
    redis: Redis
    sealing_key: bytes


_decoder = msgspec.json.Decoder(_Entry)


async def replay_or_claim(request: AnyRequest) -> Response[Any] | None:
    """The kept answer of the same request, or None after claiming the key for this one.

    Raises InvalidRequest, IdempotencyKeyReused, Conflict.
    """
    if not honours_idempotency_key(request.route_handler):
        return None
    given = request.headers.get("idempotency-key")
    principal = request.scope["state"].get("principal")
    if given is None or not isinstance(principal, Principal):
        return None
    if not _ACCEPTABLE.fullmatch(given):
        message = "1 to 255 printable ASCII characters without spaces"
        raise InvalidRequest(errors=(FieldError("Idempotency-Key", "invalid", message),))
    resources: Resources = request.app.state.resources
    # Keyed: a body may hold a password, which a plain hash would let anybody who reads Redis guess at leisure.
    secret = resources.settings.security.secret_key.encode()
    body_hash = hmac.new(secret, await request.body(), hashlib.sha256).hexdigest()
    place = hashlib.sha256(f"{request.url.path}?{request.url.query}\n{given}".encode()).hexdigest()
    key = f"idempotency:{principal.user_id}:{place}"
    raw = msgspec.json.encode(_Entry("running", body_hash, owner=secrets.token_hex(8)))
    sealing_key = hmac.new(secret, b"idempotent answer\n" + given.encode(), hashlib.sha256).digest()
    if await resources.redis.set(key, raw, nx=True, ex=CLAIM_SECONDS):
        request.scope["state"][_CLAIM] = _Claim(key, raw, body_hash, resources.redis, sealing_key)
        return None
    return _replay(await resources.redis.get(key), key, body_hash, sealing_key)


def _replay(raw: bytes | str | None, key: str, body_hash: str, sealing_key: bytes) -> Response[Any]:
    entry = _decoder.decode(raw) if raw else _Entry("running", body_hash)
    if entry.body_hash != body_hash:
        raise IdempotencyKeyReused
    if entry.state == "running":
        raise Conflict("the first request with this Idempotency-Key is still being worked on")
    headers = {name: value for name, value in entry.headers if name != "content-type"}
    media_type = dict(entry.headers).get("content-type")
    body = open_at(sealing_key, entry.sealed_body, **_PLACE, row_id=key).encode("latin-1")
    return Response(body, status_code=entry.status, media_type=media_type, headers={**headers, REPLAYED: "true"})


class IdempotentAnswers:
    """Keeps the answers of claimed requests; the outermost layer but one, so that it sees them as they are sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "POST":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            claim = scope["state"].get(_CLAIM)
            if claim is None:
                await send(message)
                return
            held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                scope["state"].pop(_CLAIM)
                await _settle(claim, held)
                for kept in held:
                    await send(kept)

        try:
            await self._app(scope, receive, hold)
        finally:
            if claim := scope.get("state", {}).pop(_CLAIM, None):
                await _release(claim)


async def _settle(claim: _Claim, messages: list[Message]) -> None:
    """Keep a success, give up the claim otherwise."""
    status = 0
    headers: list[tuple[str, str]] = []
    body = b""
    for message in messages:
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            body += message.get("body", b"")
    if not 200 <= status < 300 or len(body) > MAX_KEPT_BYTES:
        await _release(claim)
        return
    headers = [(name, value) for name, value in headers if name != "content-length"]
    sealed = seal_at(claim.sealing_key, body.decode("latin-1"), **_PLACE, row_id=claim.key)
    about = sorted({found.decode() for found in _ID.findall(body)})
    entry = _Entry("done", claim.body_hash, status=status, headers=headers, sealed_body=sealed, about=about)
    try:
        await claim.redis.set(claim.key, msgspec.json.encode(entry), ex=KEPT_SECONDS)
    except RedisError as error:
        # The change is committed; failing now would only invite the repetition this is meant to prevent.
        log.warning("idempotent_answer_not_kept", reason=type(error).__name__)


async def _release(claim: _Claim) -> None:
    try:
        await claim.redis.eval(_RELEASE, 1, claim.key, claim.raw)
    except RedisError as error:
        log.warning("idempotency_claim_not_released", reason=type(error).__name__)
