"""Everything that a running stack has told or kept, for the watch on canaries to look at."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
from redis.asyncio import Redis

from deploy.stack.backing import owners_url
from deploy.stack.data_dir import DataDirectory
from tests.e2e.running import RunningStack
from tests.isolation.canaries import FILES, LOGS, MONGO, POSTGRES, REDIS, SEALED, Canary, Watch
from tests.isolation.sweep import (
    everything_in_mongo,
    everything_in_nats,
    everything_in_postgres,
    everything_in_redis,
    files_below,
)

METRICS, MESSAGES, PROCESSES = "pages of metrics", "broker messages", "processes"
PLUGIN_FILES = ("packages", "package-cache")
"""Where in the data directory files of plugins are; the other ones are logs and the servers' own."""

_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def look_everywhere(stack: RunningStack, watch: Watch) -> None:
    """The stack must be running."""
    state = DataDirectory(stack.data_dir).state()
    assert state is not None, "nothing runs"
    urls = state.backing
    planes = [process.url for process in state.processes if process.slug.startswith(("control-plane", "worker-"))]
    await _metrics(planes, watch)
    await _stores(urls, watch)
    await asyncio.to_thread(_processes, stack, watch)
    await asyncio.to_thread(_files, stack, watch)


async def _metrics(planes: list[str], watch: Watch) -> None:
    async with aiohttp.ClientSession() as http:
        for url in planes:
            async with http.get(f"{url}/metrics") as response:
                assert response.status == 200, response
                watch.see(METRICS, url, await response.read())
            watch.count(METRICS)


async def _stores(urls: dict[str, str], watch: Watch) -> None:
    async for table, row in everything_in_postgres(owners_url(urls)):
        watch.see(POSTGRES, table, row.encode(), _named_in(row))
        watch.count(POSTGRES)
    databases: dict[str, str] = {}
    async for collection, document in everything_in_mongo(urls["CADENCE_MONGO_URL"]):
        database = collection.partition(".")[0]
        watch.see(MONGO, collection, document.encode(), _owns(database))
        watch.count(MONGO)
        databases |= dict.fromkeys(_UUID.findall(document), database)
    async with Redis.from_url(urls["CADENCE_REDIS_URL"]) as redis:
        async for key, value in everything_in_redis(redis):
            # The events of a run name no organization: they are whose the run is.
            run_id = key.removeprefix("run:").removesuffix(":events")
            belongs = _owns(databases[run_id]) if run_id in databases else _named_in(f"{key}\n{value}")
            watch.see(REDIS, key, f"{key}\n{value}".encode(), belongs)
            watch.count(REDIS)
    async for stream, message in everything_in_nats(urls["CADENCE_BROKER_URL"]):
        watch.see(MESSAGES, stream, message)
        watch.count(MESSAGES)


def _processes(stack: RunningStack, watch: Watch) -> None:
    """What each was started with."""
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        try:
            started_with = f"{process.cmdline()} {process.environ()}"
        except psutil.Error:
            continue
        watch.see(PROCESSES, f"{process.pid} {started_with[:60]}", started_with.encode())
        watch.count(PROCESSES)


def _files(stack: RunningStack, watch: Watch) -> None:
    directory = DataDirectory(stack.data_dir)
    for path in [stack.output_path, *files_below(directory.path)]:
        watch.count(FILES)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if path == stack.output_path or directory.logs in path.parents:
            for line in content.splitlines():
                watch.see(LOGS, path.name, line, _printed_by_plugin(line))
            watch.count(LOGS)
        else:
            _file(path.relative_to(directory.path), content, watch)


def _file(path: Path, content: bytes, watch: Watch) -> None:
    """Packages lie under their organization, unpacked ones under their digest."""

    def belongs(canary: Canary) -> bool:
        return path.parts[0] == "package-cache" or canary.org_id in path.parts

    if path.parts[0] in PLUGIN_FILES:
        watch.see(FILES, str(path), content, belongs)
    else:
        # The servers' own hold what was just looked at in their words, and what they have deleted since.
        watch.see(FILES, str(path), content, only=SEALED)


def _printed_by_plugin(line: bytes) -> Callable[[Canary], bool]:
    return lambda canary: b"plugin_output" in line and canary.org_id.encode() in line


def _named_in(text: str) -> Callable[[Canary], bool]:
    return lambda canary: canary.org_id in text


def _owns(database: str) -> Callable[[Canary], bool]:
    return lambda canary: database == f"cadence_{canary.org_id.replace('-', '')}"
