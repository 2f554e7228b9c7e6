"""Whether live streams notice that instances are built and reloaded beside them, and how long a build takes."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import aiohttp
import msgspec

from deploy.demo.api import CadenceAPI
from tests.benchmarks.load import LoadResult
from tests.benchmarks.measure import Plan, many, percentile
from tests.benchmarks.stack import Fleet

RELOADS = 20


class Builds(msgspec.Struct, frozen=True):
    """`quiet_…` is the longest silence of any stream without builds, `during_…` with `reloads` of them meanwhile."""

    reloads: int
    quiet_silence_ms: float
    during_silence_ms: float
    during_silence_p99_ms: float
    build_p50_ms: float
    build_max_ms: float
    errors: dict[str, int]


def measure(fleet: Fleet, plan: Plan, quiet_silence_ms: float) -> Builds:
    """The long load once more, while another instance's configuration changes again and again."""
    logged_before = len(_build_times(fleet))
    load = many(fleet.worker(), plan)
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(load))
        process.stdin.close()
        asyncio.run(_reload(fleet, plan))
        result = msgspec.json.decode(process.stdout.read(), type=LoadResult)
    times = _build_times(fleet)[logged_before:]
    return Builds(
        reloads=RELOADS,
        quiet_silence_ms=quiet_silence_ms,
        during_silence_ms=max(result.longest_silence_ms, default=0.0),
        during_silence_p99_ms=percentile(result.longest_silence_ms, 99),
        build_p50_ms=percentile(times, 50),
        build_max_ms=max(times, default=0.0),
        errors=result.errors,
    )


async def _reload(fleet: Fleet, plan: Plan) -> None:
    """Change the spare instance's configuration RELOADS times, spread over the load's first part."""
    seconds = plan.tokens * plan.gap_ms / 1000
    async with aiohttp.ClientSession() as session:
        api = CadenceAPI(fleet.gateway_url, session)
        api.headers = fleet.headers
        for number in range(RELOADS):
            body = {"whoami": f"You are benchmark number {number}."}
            await api.call("PATCH", fleet.spare.path, "change an orchestrator", json=body)
            await asyncio.sleep(seconds / RELOADS)


def _build_times(fleet: Fleet) -> Sequence[float]:
    """The durations that the worker logged for its builds, in milliseconds."""
    times: list[float] = []
    for line in fleet.worker_log.read_bytes().splitlines():
        try:
            entry = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError:
            continue
        if entry.get("event") == "orchestrator_built" and isinstance(took := entry.get("duration_ms"), int | float):
            times.append(float(took))
    return times
