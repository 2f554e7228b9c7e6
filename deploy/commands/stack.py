"""`cadence up`, `down`, `status`, `logs`."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, running_stack
from deploy.commands.tables import print_table
from deploy.errors import DeployError, NotRunning, ServerUnavailable
from deploy.stack.data_dir import DataDirectory

_DOWN_SECONDS = 60.0
_FOLLOW_SECONDS = 0.2


def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Runtime workers to start.")] = 1,
    demo: Annotated[bool, typer.Option("--demo", help="Also a demo model and an orchestrator that uses it.")] = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the API and the chat endpoints answer.")] = 8000,
) -> None:
    """Start everything, and stop it with Ctrl-C.

    PostgreSQL, MongoDB, Valkey and NATS come out of Python packages; one whose CADENCE_…_URL is set is used instead.

    Example: cadence up --workers 2 --demo
    """
    # Here, so that commands that start nothing do without the packages of the embedded servers.
    try:
        from deploy.stack.display import Display
        from deploy.stack.signals import StopRequested, stop_requests
        from deploy.stack.stack import Stack, StackOptions
        from deploy.stack.welcome import welcome
    except ModuleNotFoundError as error:
        raise ServerUnavailable(
            f"`cadence up` needs packages that are not installed here ({error.name} is missing):"
            " run it in a checkout as `uv run cadence up`."
        ) from None

    directory = DataDirectory(data_dir)
    directory.create()
    display = Display(Console())
    with directory.locked():
        options = StackOptions(port=port, worker_count=workers, with_demo=demo)
        stack = Stack(directory, options, display, os.environ)
        is_ready = False
        try:
            with stop_requests():
                try:
                    started = time.monotonic()
                    with display.starting():
                        secrets = stack.start()
                    is_ready = True
                    welcome(display, directory, stack, secrets, time.monotonic() - started)
                    stack.watch()
                finally:
                    display.line("Stopping …")
                    stack.stop()
        except StopRequested:
            display.line("Stopped; everything is kept in " + str(directory.path))
            if not is_ready:
                raise typer.Exit(130) from None


def down(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Stop the running stack; its data stays.

    Example: cadence down
    """
    directory = DataDirectory(data_dir)
    pid = directory.owner_pid()
    if pid is None:
        typer.echo("Nothing is running.")
        return
    os.kill(pid, signal.SIGTERM)
    if not directory.wait_until_unlocked(_DOWN_SECONDS):
        raise DeployError(f"The stack (process {pid}) did not stop within {_DOWN_SECONDS:.0f} s.")
    typer.echo("Stopped.")


def status(data_dir: DataDirOption = DEFAULT_DATA_DIR, as_json: JsonOption = False) -> None:
    """Show the processes of the running stack and their health.

    Exit code 3 when nothing runs, 1 when something is not healthy.

    Example: cadence status --json
    """
    from deploy.stack.health import inspect

    directory = DataDirectory(data_dir)
    state = running_stack(directory)
    reports = inspect(directory, state)
    if as_json:
        typer.echo(msgspec.json.encode({"url": state.url, "pid": state.pid, "processes": reports}))
    else:
        table = Table("process", "pid", "answers at", "health", box=None)
        for report in reports:
            colour = "green" if report.is_healthy else "red"
            table.add_row(report.name, str(report.pid or "-"), report.url, f"[{colour}]{report.health}[/]")
        print_table(table)
    if not all(report.is_healthy for report in reports):
        raise typer.Exit(1)


def logs(
    name: Annotated[str | None, typer.Argument(help="worker-1, control-plane, postgres, …; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Show what the processes wrote, also after they ended.

    Example: cadence logs worker-1 -f
    """
    found = {path.stem: path for path in sorted(DataDirectory(data_dir).logs.glob("*.log"))}
    if not found:
        raise NotRunning(f"There are no logs in {DataDirectory(data_dir).logs}: nothing was started from there yet.")
    if name is not None and name not in found:
        raise DeployError(f"There is no log of {name!r}; there are: {', '.join(found)}.")
    chosen = [found[name]] if name else list(found.values())
    positions = {path: _print_tail(path, lines, with_name=len(chosen) > 1) for path in chosen}
    try:
        while follow:
            time.sleep(_FOLLOW_SECONDS)
            for path in chosen:
                positions[path] = _print_since(path, positions[path], with_name=len(chosen) > 1)
    except KeyboardInterrupt:
        return


def _print_tail(path: Path, lines: int, *, with_name: bool) -> int:
    content = path.read_bytes()
    for line in content.decode(errors="replace").splitlines()[-lines:] if lines else ():
        _print(path, line, with_name=with_name)
    return len(content)


def _print_since(path: Path, position: int, *, with_name: bool) -> int:
    """Print the whole lines after `position`, and say where they end."""
    with path.open("rb") as file:
        file.seek(position)
        complete, newline, _ = file.read().rpartition(b"\n")
    for line in complete.decode(errors="replace").splitlines():
        _print(path, line, with_name=with_name)
    return position + len(complete) + len(newline)


def _print(path: Path, line: str, *, with_name: bool) -> None:
    sys.stdout.write(f"{path.stem}: {line}\n" if with_name else f"{line}\n")
    sys.stdout.flush()
