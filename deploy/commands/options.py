"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.errors import NotRunning
from deploy.stack.data_dir import DEFAULT, DataDirectory, StackState

DataDirOption = Annotated[
    Path, typer.Option("--data-dir", help="Where the stack keeps everything.", envvar="CADENCE_DATA_DIR")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DEFAULT_DATA_DIR = DEFAULT


def running_stack(directory: DataDirectory) -> StackState:
    """Raises NotRunning."""
    state = directory.state()
    if state is None:
        starting = directory.is_locked()
        what = "is still starting" if starting else "is not running"
        hint = "look again in a moment" if starting else "start it with `cadence up`"
        raise NotRunning(f"Cadence {what} (data directory {directory.path}): {hint}.")
    return state
