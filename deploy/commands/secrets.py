"""`cadence secrets rotate`."""

import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from deploy.stack.data_dir import DataDirectory
from deploy.stack.environment import completed
from deploy.stack.modules import lines_of_module

_STEPS = {"wrap": "Wrapping data keys", "seal": "Sealing secrets", "retire": "Retiring old data keys"}


def rotate(
    reseal: Annotated[
        bool, typer.Option("--reseal", help="Also make new data keys, and seal every secret anew with them.")
    ] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Bring all secrets under the newest encryption key, while everything runs.

    First put the new key before the old ones, for every process. It can be run again at any time, and says at the end
    which keys may be taken away.

    Example: cadence secrets rotate
    """
    environment = completed(os.environ, DataDirectory(data_dir))
    running = lines_of_module("control_plane.data_keys.rotate", environment, *(["--reseal"] if reseal else []))
    report: dict[str, Any] = {}
    with _bars() as progress:
        tasks: dict[str, TaskID] = {}
        for line in running:
            told = json.loads(line)
            if told["event"] == "rotated":
                report = told
            elif not as_json:
                step = told["step"]
                if step not in tasks:
                    tasks[step] = progress.add_task(_STEPS[step], total=told["total"])
                progress.update(tasks[step], completed=told["done"], total=told["total"])
    if report:
        _show(report, as_json=as_json)
    raise typer.Exit(running.returncode)


def _bars() -> Progress:
    # On a terminal only, and not where the report goes.
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({name: value for name, value in report.items() if name != "event"}))
        return
    newest = report["newest"]
    typer.echo(
        f"{report['wrapped']} data keys wrapped with {newest}, {report['sealed']} rows of secrets sealed anew,"
        f" {report['retired']} old data keys deleted."
    )
    if report["unreadable"]:
        typer.echo(f"{report['unreadable']} could not be opened with the keys of this process.", err=True)
    for key, count in report["needed"].items():
        if key != newest:
            typer.echo(f"Still needed: {key} (by {count}). Does a process still have another key first? Run it again.")
    unneeded = ", ".join(report["not_needed"])
    typer.echo(f"No longer needed: {unneeded or 'none of the keys here'}.")
    sys.stdout.flush()
