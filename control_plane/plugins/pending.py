"""Uploads that take longer than a request should: they go on in the background and are asked for by their id.

What is known of one is in Redis, so every process can answer. While it runs, the process that runs it keeps a second
key alive: when that process dies the key dies too, and the upload is told to be lost instead of running for ever.
Nothing is half-done then: bytes and row are stored at the very end, as in a request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Conflict, DomainError, NotFound
from shared.ids import new_id
from shared.logging import get_logger
from shared.packages.inspection.preparation import Preparation, PreparedPackage
from shared.problems import Problem, problem_of

log = get_logger(__name__)

ANSWER_SECONDS = 20.0
KEPT_SECONDS = 3600
ALIVE_SECONDS = 30
HEARTBEAT_SECONDS = 10.0
MAX_RUNNING = 16

UploadState = Literal["running", "done", "failed"]


class Upload(msgspec.Struct, frozen=True):
    """Who uploads what. `owner` is None for the system catalogue; only there `trusted` means anything."""

    owner: UUID | None
    data: bytes
    created_by: UUID | None
    tag: str | None = None
    trusted: bool = False


class PendingUpload(msgspec.Struct, frozen=True):
    """`plugin_id` is the row it came to, `problem` why it came to none."""

    upload_id: UUID
    state: UploadState = "running"
    plugin_id: UUID | None = None
    problem: Problem | None = None


Register = Callable[[Upload, PreparedPackage], Awaitable[UUID]]
"""Stores an upload in a transaction of its own; the id of the row."""


class PendingUploads:
    """Owns the uploads that outlived their requests, in this process."""

    def __init__(self, redis: Redis, preparation: Preparation, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._redis = redis
        self._preparation = preparation
        self._answer_seconds = answer_seconds
        self._running: dict[UUID, asyncio.Task[None]] = {}

    async def prepare(self, upload: Upload, register: Register) -> PreparedPackage | PendingUpload:
        """The prepared package when it is soon ready, else a pending upload that this process finishes by `register`.

        Raises what `Preparation.prepare` raises.
        """
        preparing = asyncio.create_task(self._preparation.prepare(upload.data, owner=upload.owner))
        try:
            await asyncio.wait({preparing}, timeout=self._answer_seconds)
            # At the limit the caller keeps waiting: that, too, is a bound on what runs.
            if preparing.done() or len(self._running) >= MAX_RUNNING:
                return await preparing
            pending = PendingUpload(new_id())
            await self._beat(upload.owner, pending)
        except BaseException:
            preparing.cancel()
            raise
        task = asyncio.create_task(
            self._finish(upload, pending, preparing, register), name=f"upload-{pending.upload_id}"
        )
        self._running[pending.upload_id] = task
        task.add_done_callback(lambda _: self._running.pop(pending.upload_id, None))
        return pending

    async def get(self, owner: UUID | None, upload_id: UUID) -> PendingUpload:
        """Raises NotFound for one that is unknown, somebody else's, or over for more than an hour."""
        raw, alive = await self._redis.mget(_key(owner, upload_id), _alive_key(upload_id))
        if raw is None:
            raise NotFound
        pending = msgspec.json.decode(raw, type=PendingUpload)
        if pending.state == "running" and alive is None:
            lost = Conflict("the server that worked on this upload has stopped; upload the package again")
            return PendingUpload(upload_id, "failed", problem=problem_of(lost))
        return pending

    async def close(self) -> None:
        """Stop what runs; whoever asks learns that it is lost."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _finish(
        self, upload: Upload, pending: PendingUpload, preparing: "asyncio.Task[PreparedPackage]", register: Register
    ) -> None:
        try:
            while not (await asyncio.wait({preparing}, timeout=HEARTBEAT_SECONDS))[0]:
                # Without Redis nobody can ask anyway; the next beat may get through.
                with suppress(RedisError):
                    await self._beat(upload.owner, pending)
            plugin_id = await register(upload, await preparing)
            result = PendingUpload(pending.upload_id, "done", plugin_id)
        except DomainError as error:
            result = PendingUpload(pending.upload_id, "failed", problem=problem_of(error))
        except Exception:
            # The edge of a background task: nobody else would ever tell of it.
            log.exception("pending_upload_failed", upload_id=str(pending.upload_id))
            result = PendingUpload(pending.upload_id, "failed", problem=problem_of(DomainError()))
        finally:
            preparing.cancel()
        with suppress(RedisError):
            await self._redis.set(_key(upload.owner, pending.upload_id), msgspec.json.encode(result), ex=KEPT_SECONDS)

    async def _beat(self, owner: UUID | None, pending: PendingUpload) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_key(owner, pending.upload_id), msgspec.json.encode(pending), ex=KEPT_SECONDS)
            pipe.set(_alive_key(pending.upload_id), b"1", ex=ALIVE_SECONDS)
            await pipe.execute()


def _key(owner: UUID | None, upload_id: UUID) -> str:
    return f"upload:{owner or 'system'}:{upload_id}"


def _alive_key(upload_id: UUID) -> str:
    return f"upload_alive:{upload_id}"
