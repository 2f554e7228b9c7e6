"""A display for tests that look at something else."""

from io import StringIO

from rich.console import Console

from deploy.stack.display import Display


class SilentDisplay(Display):
    def __init__(self) -> None:
        super().__init__(Console(file=StringIO()))
