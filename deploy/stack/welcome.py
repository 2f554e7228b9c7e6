"""What `cadence up` says once all is ready."""

import platform

from deploy.demo.seed import ORCHESTRATOR
from deploy.stack.data_dir import DataDirectory
from deploy.stack.display import Display
from deploy.stack.interpreter import better_one
from deploy.stack.secrets import StackSecrets
from deploy.stack.stack import Stack

DEMO_QUESTION = "How many kilometres are 26.2 miles, and what is 17.5 % of 480?"


def welcome(display: Display, directory: DataDirectory, stack: Stack, secrets: StackSecrets, seconds: float) -> None:
    """The address, who may log in, and a step that can be pasted. The password is printed on the first start only."""
    display.line(f"\n[bold green]Cadence is ready[/] at [bold]{stack.url}[/]  [dim]({seconds:.1f} s)[/]\n")
    display.line(f"  API documents  {stack.url}/docs")
    display.line(f"  user name      {secrets.admin_username}")
    if stack.is_first_start:
        display.plain(
            f"  password       {secrets.admin_password}   (shown this once; kept in {directory.secrets_file})"
        )
    else:
        display.line(f"  password       in {directory.secrets_file}")
    display.line("\nNext, in another terminal:\n")
    for line in _next_step(directory, stack):
        display.plain(f"  {line}".rstrip())
    if better := better_one():
        display.line(
            f"\n[dim]Python {platform.python_version()} was built here without optimisations and needs up to a third"
            f" more CPU than the system's, which UV_PYTHON={better} before the command takes.[/]"
        )
    display.line("\n[dim]Ctrl-C stops everything; the data stays.[/]")


def _next_step(directory: DataDirectory, stack: Stack) -> list[str]:
    options = directory.command_options()
    if stack.demo is None:
        return [f'curl {stack.url}/api/me -H "Authorization: Bearer $(uv run cadence token{options})"']
    return [*first_chat(options), "", "or, to talk to it:", "", f"uv run cadence chat '{ORCHESTRATOR}'{options}"]


def first_chat(options: str) -> list[str]:
    """The command that asks the demo something, line by line; without options it is the one that the README shows."""
    return [
        f"curl -N \"$(uv run cadence url '{ORCHESTRATOR}'{options})/completion/stream\" \\",
        f'  -H "Authorization: Bearer $(uv run cadence token{options})" -H "Content-Type: application/json" \\',
        f'  -d \'{{"message": "{DEMO_QUESTION}"}}\'',
    ]
