"""`cadence health` and `cadence stats`."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, running_stack
from deploy.stack.data_dir import DataDirectory

if TYPE_CHECKING:
    from shared.workers import WorkerRecord


def health(data_dir: DataDirOption = DEFAULT_DATA_DIR, as_json: JsonOption = False) -> None:
    """Ask the control plane and every worker how what they need is.

    Exit code 1 when one is not ready.

    Example: cadence health
    """
    from deploy.stack.health import inspect

    directory = DataDirectory(data_dir)
    reports = [report for report in inspect(directory, running_stack(directory)) if report.details is not None]
    if as_json:
        typer.echo(msgspec.json.encode({report.slug: report.details for report in reports}))
    else:
        for report in reports:
            typer.echo(f"{report.name}: {report.health}")
            for name, value in _flat(report.details or {}):
                typer.echo(f"  {name}: {value}")
    if not reports or not all(report.is_healthy for report in reports):
        raise typer.Exit(1)


def stats(data_dir: DataDirOption = DEFAULT_DATA_DIR, as_json: JsonOption = False) -> None:
    """Show what every live worker holds.

    Example: cadence stats --json
    """
    from rich.table import Table

    from deploy.commands.tables import print_table

    url = os.environ.get("CADENCE_REDIS_URL") or running_stack(DataDirectory(data_dir)).backing["CADENCE_REDIS_URL"]
    records = asyncio.run(_live_workers(url))
    if as_json:
        typer.echo(msgspec.json.encode(records))
        return
    counts = ("hot", "warm", "cold", "waiting", "models", "bundles", "templates")
    table = Table("worker", "url", "runs", *counts, "pool MB", "MB", "plugins MB", "state", box=None)
    for r in records:
        runs = f"{r.active_runs}/{r.capacity}"
        shared = (r.shared_models, r.shared_bundles, r.shared_templates)
        numbers = (r.hot, r.warm, r.cold, r.build_queue, *shared)
        memory = (f"{r.pool_mb:.1f}/{r.pool_limit_mb:.0f}", f"{r.rss_mb:.0f}", f"{r.hosts_mb:.0f}")
        state = "draining" if r.draining else "serving"
        table.add_row(r.worker_id, r.url, runs, *map(str, numbers), *memory, state)
    print_table(table)


async def _live_workers(redis_url: str) -> "list[WorkerRecord]":
    # Here, so that no other command waits for these to be loaded.
    from redis.asyncio import Redis

    from shared.clock import SystemClock
    from shared.workers import WorkerRegistry

    async with Redis.from_url(redis_url) as client:
        return list(await WorkerRegistry(client, SystemClock()).live())


def _flat(details: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in details.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((prefix + name, value))
    return flat
