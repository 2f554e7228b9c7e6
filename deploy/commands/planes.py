"""Single processes and jobs. Each becomes `python -m …`, so its signals, output and exit code are that module's own.

Settings come from `CADENCE_*`; beside a running `cadence up` they may be left out, and are the stack's.
"""

import json
import os
import sys
from typing import Annotated

import typer

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from deploy.stack.data_dir import DataDirectory
from deploy.stack.environment import completed
from deploy.stack.modules import become_module, run_module


def bootstrap(
    username: Annotated[str | None, typer.Option(help="Chosen when left out.")] = None,
    email: Annotated[str | None, typer.Option(help="Chosen when left out.")] = None,
    password: Annotated[str | None, typer.Option(help="Invented and printed once when left out.")] = None,
    add_sys_admin: Annotated[bool, typer.Option("--add-sys-admin", help="Add one more where one exists.")] = False,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Create the first system administrator.

    Prints its id, name and password, and a ready token.

    Example: cadence bootstrap --username ada --email ada@example.com
    """
    given = {"--username": username, "--email": email}
    arguments = [part for name, value in given.items() if value is not None for part in (name, value)]
    environment = completed(os.environ, DataDirectory(data_dir))
    if password is not None:
        environment["CADENCE_ADMIN_PASSWORD"] = password
    flags = ["--add-sys-admin"] if add_sys_admin else []
    run = run_module("control_plane.bootstrap", environment, *arguments, *flags)
    sys.stderr.write(run.stderr)
    if run.returncode:
        raise typer.Exit(run.returncode)
    if as_json:
        typer.echo(run.stdout.strip())
        return
    for name, value in json.loads(run.stdout).items():
        typer.echo(f"{name:<9} {value}")
    typer.echo("\nThe password is shown this once. The token is good for `Authorization: Bearer …` until it expires.")


def migrate(
    down: Annotated[int, typer.Option(min=0, metavar="N", help="Go back N migrations instead.")] = 0,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Bring PostgreSQL to the newest schema.

    Example: cadence migrate --down 1
    """
    _become("migrations", DataDirectory(data_dir), *(["--down", str(down)] if down else []))


def control_plane(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Run the control plane in this process.

    Example: CADENCE_API_PORT=8080 cadence control-plane
    """
    _become("control_plane", DataDirectory(data_dir))


def worker(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Run a runtime worker in this process.

    Beside a running stack it joins that stack, on a free port.

    Example: CADENCE_WORKER_PORT=8101 cadence worker
    """
    directory = DataDirectory(data_dir)
    extra: dict[str, str] = {}
    if "CADENCE_WORKER_PORT" not in os.environ and directory.state() is not None:
        from deploy.local.ports import free_port

        extra["CADENCE_WORKER_PORT"] = str(free_port())
    become_module("runtime_worker", {**completed(os.environ, directory), **extra})


def relay(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Run the outbox relay alone.

    Example: cadence relay
    """
    _become("control_plane.relay", DataDirectory(data_dir))


def audit_verify(data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Check that every entry of the audit log is there, and as it was written.

    Example: cadence audit verify
    """
    _become("control_plane.audit.verify", DataDirectory(data_dir))


def openapi() -> None:
    """Print the OpenAPI document, as JSON. Needs no server.

    Example: cadence openapi > openapi.json
    """
    become_module("control_plane.openapi", {})


def _become(module: str, directory: DataDirectory, *arguments: str) -> None:
    sys.stdout.flush()
    become_module(module, completed(os.environ, directory), *arguments)
