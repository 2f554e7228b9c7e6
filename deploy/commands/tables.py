"""Tables for people."""

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 200


def print_table(table: Table) -> None:
    """As wide as the terminal; wide enough for every column where the output is read by something else."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    console.print(table)
