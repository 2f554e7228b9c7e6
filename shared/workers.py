"""The live registry of runtime workers in Redis.

`worker:{worker_id}` is a worker's record (JSON, expires when heartbeats stop), `workers` lists ids by last heartbeat,
`worker:{worker_id}:instances` maps instance ids to what that worker last did with them. `recently_used` lists instance
ids by their last run on any worker; a worker that starts prepares those first.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Literal, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from shared.clock import Clock
from shared.snapshots import PluginSource

HEARTBEAT_SECONDS = 1.0
RECORD_SECONDS = 5
"""A worker that has not been heard of for this long is dead to the gateway (the fleet contract allows 5 s)."""
RECENTLY_USED = "recently_used"
MAX_RECENTLY_USED = 10_000

LoadState = Literal["building", "ready", "failed", "unloaded"]


# ARGV: 1 since when a worker must have been heard of, then instance ids.
_STATES = """
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf')) do
  if redis.call('EXISTS', 'worker:' .. id) == 1 then
    local states = {}
    if #ARGV > 1 then states = redis.call('HMGET', 'worker:' .. id .. ':instances', unpack(ARGV, 2)) end
    table.insert(found, {id, states})
  end
end
return found
"""


class PluginCircuit(msgspec.Struct, frozen=True):
    """A plugin whose process has crashed in a worker: whether it is used, and when it is tried again if not."""

    org_id: UUID
    source: PluginSource
    pid: str
    version: str
    state: Literal["closed", "open", "half_open"]
    crashes: int
    reason: str
    retry_seconds: float = 0.0


class WorkerRecord(msgspec.Struct, frozen=True):
    """What one worker process says of itself. `capacity` is the number of runs it takes at once.

    One that is `joining` still builds what will be its to keep, one that is `draining` takes no more requests.
    `plugin_hosts` counts the processes it runs plugins in, `plugin_circuits` names the plugins that crashed there.
    `rss_mb` is what the process itself has resident, `hosts_mb` what those of its plugins have; `pool_mb` what of all
    this is held by orchestrators that are built, of `pool_limit_mb` that they may hold. `build_queue` counts those that
    wait to be built.
    Every change up to `observed_revision` has been taken in.
    """

    worker_id: str
    url: str
    version: str
    started_at: datetime
    draining: bool = False
    active_runs: int = 0
    capacity: int = 0
    rss_mb: float = 0.0
    hot: int = 0
    warm: int = 0
    cold: int = 0
    shared_models: int = 0
    shared_bundles: int = 0
    shared_templates: int = 0
    plugin_hosts: int = 0
    plugin_circuits: tuple[PluginCircuit, ...] = ()
    joining: bool = False
    hosts_mb: float = 0.0
    pool_mb: float = 0.0
    pool_limit_mb: float = 0.0
    build_queue: int = 0
    observed_revision: int = 0

    @property
    def is_serving(self) -> bool:
        """Whether it should get new requests."""
        return not self.draining and not self.joining


class InstanceState(msgspec.Struct, frozen=True):
    """What a worker last did with one instance; `reason` says why a build failed, or what one is waiting for.

    `revision` and `config_hash` are the newest it has observed, `served_revision` and `served_config_hash` what a run
    would get from it now; None where nothing is built.
    """

    instance_id: UUID
    org_id: UUID
    state: LoadState
    revision: int
    config_hash: str
    updated_at: datetime
    reason: str | None = None
    served_revision: int | None = None
    served_config_hash: str | None = None


class WorkerRegistry:
    """Reads and writes the registry."""

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._states = redis.register_script(_STATES)

    async def announce(self, record: WorkerRecord, *, used: Collection[UUID] = ()) -> None:
        """Write a heartbeat, and which instances had a run since the last one."""
        now = self._clock.now().timestamp()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(_record(record.worker_id), msgspec.json.encode(record), ex=RECORD_SECONDS)
            pipe.zadd("workers", {record.worker_id: now})
            if used:
                pipe.zadd(RECENTLY_USED, dict.fromkeys(map(str, used), now))
                pipe.zremrangebyrank(RECENTLY_USED, 0, -MAX_RECENTLY_USED - 1)
            pipe.expire(_instances(record.worker_id), RECORD_SECONDS * 2)
            await pipe.execute()

    async def leave(self, worker_id: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(_record(worker_id), _instances(worker_id))
            pipe.zrem("workers", worker_id)
            await pipe.execute()

    async def report(self, worker_id: str, states: Iterable[InstanceState]) -> None:
        """Record what this worker did with instances; safe to repeat."""
        mapping = {str(s.instance_id): msgspec.json.encode(s) for s in states}
        if not mapping:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(_instances(worker_id), mapping=mapping)  # type: ignore[arg-type]
            pipe.expire(_instances(worker_id), RECORD_SECONDS * 2)
            await pipe.execute()

    async def forget(self, worker_id: str, instance_id: UUID) -> None:
        await self._redis.hdel(_instances(worker_id), str(instance_id))

    async def live(self) -> list[WorkerRecord]:
        """Workers heard of in the last RECORD_SECONDS, in a stable order; draining ones included."""
        since = self._clock.now().timestamp() - RECORD_SECONDS
        ids = cast("list[bytes]", await self._redis.zrangebyscore("workers", since, "+inf"))
        if not ids:
            return []
        raws = await self._redis.mget([_record(i.decode()) for i in ids])
        records = [msgspec.json.decode(raw, type=WorkerRecord) for raw in raws if raw is not None]
        return sorted(records, key=lambda r: r.worker_id)

    async def recently_used(self) -> list[UUID]:
        """Instances by their last run, the latest first."""
        ids = cast("list[bytes]", await self._redis.zrevrange(RECENTLY_USED, 0, MAX_RECENTLY_USED))
        return [UUID(i.decode()) for i in ids]

    async def fleet(self) -> list[tuple[WorkerRecord, list[InstanceState]]]:
        """Every live worker with all it says about instances, by instance id."""
        workers = await self.live()
        if not workers:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for worker in workers:
                pipe.hvals(_instances(worker.worker_id))
            rows = await pipe.execute()
        fleet: list[tuple[WorkerRecord, list[InstanceState]]] = []
        for worker, row in zip(workers, rows, strict=True):
            states = [msgspec.json.decode(raw, type=InstanceState) for raw in row]
            fleet.append((worker, sorted(states, key=lambda s: s.instance_id)))
        return fleet

    async def states_of(self, instance_id: UUID) -> dict[str, InstanceState]:
        """What each live worker last did with the instance, by worker id."""
        return {
            w: found for w, states in (await self.states([instance_id])).items() if (found := states.get(instance_id))
        }

    async def states(self, instance_ids: Sequence[UUID]) -> dict[str, dict[UUID, InstanceState]]:
        """For each live worker, what it last did with the given instances. In one round trip."""
        since = self._clock.now().timestamp() - RECORD_SECONDS
        rows = await self._states(keys=["workers"], args=[since, *map(str, instance_ids)])
        found: dict[str, dict[UUID, InstanceState]] = {}
        for worker_id, raws in cast("list[tuple[bytes, list[bytes | None]]]", rows):
            states = [_state_decoder.decode(raw) for raw in raws if raw is not None]
            found[worker_id.decode()] = {s.instance_id: s for s in states}
        return found


async def forget_use(redis: "Redis", instance_ids: Sequence[UUID]) -> None:
    """These were never used. Raises RedisError."""
    if instance_ids:
        await redis.zrem(RECENTLY_USED, *map(str, instance_ids))


_state_decoder = msgspec.json.Decoder(InstanceState)


def _record(worker_id: str) -> str:
    return f"worker:{worker_id}"


def _instances(worker_id: str) -> str:
    return f"worker:{worker_id}:instances"
