"""Whether this process lives and whether it should get requests."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

import msgspec
from litestar import Response, Router
from litestar.di import NamedDependency
from redis.exceptions import RedisError

from runtime_worker.http.auth import public
from runtime_worker.http.handlers import get
from runtime_worker.wiring import Worker
from shared.errors import StoreUnavailable
from shared.limits import WhenUncounted

CHECK_SECONDS = 1.0

State = Literal["up", "down"]


class Alive(msgspec.Struct, frozen=True):
    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True):
    """`dependencies` names each with its state; without the broker the worker polls, so it is not needed.

    `limits` is whether rates and budgets can be counted; if not, requests pass where `limits_when_uncounted` is open.
    `plugins_without_environment` are those whose Python dependencies are not installed here yet, or cannot be.
    """

    status: Literal["ready", "not_ready", "joining", "draining"]
    worker_id: str
    active_runs: int
    dependencies: dict[str, State]
    limits_when_uncounted: WhenUncounted = "open"
    plugins_without_environment: tuple[str, ...] = ()


@get(["/health", "/health/live"], guards=[public])
async def live() -> Alive:
    """The process answers."""
    return Alive()


@get("/health/ready", guards=[public])
async def ready(worker: NamedDependency[Worker]) -> Response[Readiness]:
    """503 while something needed is down, before the change feed was read once, while a new worker still builds what
    will be its to keep, and while it drains."""
    redis, limits, mongo, broker = await asyncio.gather(
        _state(worker.redis.ping()),
        _state(worker.limiter.can_count()),
        _state(worker.store.check()),
        _broker_state(worker),
    )
    control_plane: State = "up" if worker.reconciler.has_caught_up and not worker.reconciler.is_cut_off else "down"
    dependencies: dict[str, State] = {
        "redis": redis,
        "mongodb": mongo,
        "control_plane": control_plane,
        "broker": broker,
        "limits": limits,
    }
    # A worker that has read the feed serves what it knows without the control plane, so only the first reading counts.
    can_admit = limits == "up" or worker.limiter.when_uncounted == "open"
    is_ready = redis == mongo == "up" and can_admit and worker.reconciler.has_caught_up
    status: Literal["ready", "not_ready", "joining", "draining"] = "ready" if is_ready else "not_ready"
    if is_ready and not worker.topology.is_serving:
        status = "joining"
    if worker.table.is_draining:
        status = "draining"
    body = Readiness(
        status,
        worker.worker_id,
        len(worker.table),
        dependencies,
        worker.limiter.when_uncounted,
        worker.plugins_without_environment,
    )
    return Response(body, status_code=200 if status == "ready" else 503)


async def _state(check: Awaitable[object]) -> State:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except (RedisError, StoreUnavailable, TimeoutError):
        return "down"
    return "up"


async def _broker_state(worker: Worker) -> State:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return "up" if await worker.events.is_connected() else "down"
    except Exception:  # The brokers' clients raise trees of their own; all of it means the same here.
        return "down"


router = Router("/", route_handlers=[live, ready])
