"""`cadence plugin new`, `run` and `pack`: from an idea to a package, without a stack."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from deploy.commands.options import JsonOption
from deploy.commands.plugin_check import IndexOption
from deploy.plugins import packing
from deploy.plugins.scaffold import create_plugin
from deploy.plugins.telling import AsJson, ForPeople
from shared.packages import digest_of

if TYPE_CHECKING:
    from deploy.plugins.checking import Checks

PluginPath = Annotated[Path, typer.Argument(help="The plugin's folder.")]


def new(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _; also the name of the folder.")],
    pid: Annotated[
        str | None, typer.Option(help="A reversed domain name of yours; com.example.NAME if left out.")
    ] = None,
    directory: Annotated[Path, typer.Option("--in", help="Where the folder is made.")] = Path(),
) -> None:
    """Start a plugin: a folder with a tool that works, its tests and a README.

    Example: cadence plugin new weather --pid com.example.weather
    """
    folder = create_plugin(name, directory, pid=pid)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[green]✓[/] {escape(str(folder))}")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            console.print(f"    [dim]{escape(str(path.relative_to(folder)))}[/]")
    console.print(f"\nNext: uv run cadence plugin run {escape(str(folder))} -m 'Please greet Ada'")


def run(
    path: PluginPath,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Say this, print the answer, end.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated.")
    ] = None,
    index_url: IndexOption = None,
    as_json: JsonOption = False,
) -> None:
    """Talk to a plugin here, with the demo model and without a stack.

    Its tool calls are shown with arguments and results. The plugin runs in this process, with your rights. Ctrl-D ends.
    Exit code 1 when a call of --message failed.

    Example: cadence plugin run weather -m "How much rain does Bonn expect?" --set units=inch
    """
    # Here, so that no other command waits for these to be loaded.
    from deploy.plugins.checking import Checks
    from shared.logging import configure_logging

    configure_logging("WARNING", "console")
    console = Console(soft_wrap=True)
    telling = AsJson(console) if as_json else ForPeople(console)
    try:
        all_worked = asyncio.run(_chat(path, settings or [], message, telling, Checks(index_url=index_url)))
    except KeyboardInterrupt:
        return
    if not all_worked and message is not None:
        raise typer.Exit(1)


def pack(
    path: PluginPath,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The zip to write; <folder>.zip here if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Pack a plugin into a zip, the same bytes for the same sources.

    Tests, caches and hidden files stay out.

    Example: cadence plugin pack weather -o weather.zip
    """
    data = packing.pack(path)
    target = output or Path(f"{path.resolve().name}.zip")
    try:
        target.write_bytes(data)
    except OSError as error:
        raise packing.NothingToPack(f"{target} cannot be written: {error.strerror or error}.") from None
    digest = digest_of(data)
    if as_json:
        typer.echo(msgspec.json.encode({"path": str(target), "size_bytes": len(data), "digest": digest}))
    else:
        typer.echo(f"{target}  {len(data)} bytes  sha256:{digest}")


async def _chat(
    path: Path, settings: list[str], message: str | None, telling: AsJson | ForPeople, checks: "Checks"
) -> bool:
    """Whether every call worked."""
    import aiohttp

    from deploy.plugins.starting import start_plugin
    from deploy.plugins.terminal import PluginChat, demo_model

    harness = await start_plugin(path, settings, checks)
    async with harness, demo_model() as model_url, aiohttp.ClientSession() as session:
        chat = PluginChat(harness, session, model_url, telling)
        if message is not None:
            return await chat.say(message)
        while (text := await asyncio.to_thread(_ask)) is not None:
            if text.strip():
                await chat.say(text)
        return True


def _ask() -> str | None:
    try:
        return input("you> ")
    except EOFError:
        return None
