"""`cadence plugin push`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, running_stack
from deploy.plugins.packing import package_of
from deploy.stack.data_dir import DataDirectory
from deploy.stack.secrets import load_or_create

if TYPE_CHECKING:
    from deploy.demo.api import CallRefused

UPLOAD_SECONDS = 180.0


def push(
    path: Annotated[Path, typer.Argument(help="The plugin's folder, or a zip.")],
    org: Annotated[
        str | None,
        typer.Option("--org", help="Id or name of the organization; may be left out when there is only one."),
    ] = None,
    use_in: Annotated[
        str | None, typer.Option("--use-in", metavar="ORCHESTRATOR", help="Have this orchestrator use it at once.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="A word to find the plugin by.")] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", envvar="CADENCE_URL", help="Address of a Cadence; the stack here if left out."),
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", envvar="CADENCE_TOKEN", help="A token for it; needed with --url.")
    ] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Upload a plugin to a running Cadence.

    Exit code 1 when the server refuses it; every reason is printed.

    Example: cadence plugin push weather --org Demo --use-in "Demo assistant"
    """
    # Here, so that no other command waits for these to be loaded.
    from deploy.demo.api import CallRefused

    package = package_of(path)
    directory, is_here = DataDirectory(data_dir), url is None
    if url is None:
        url, login = running_stack(directory).url, None
        if token is None:
            secrets = load_or_create(directory)
            login = (secrets.admin_username, secrets.admin_password)
    elif token is None:
        raise typer.BadParameter("--url needs --token, or CADENCE_TOKEN in the environment.")
    else:
        login = None
    try:
        done = asyncio.run(_push(url, token, login, package, org, use_in, tag, is_quiet=as_json))
    except CallRefused as refused:
        _tell_refusal(refused, as_json=as_json)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(msgspec.json.encode(done))
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[green]✓[/] {escape(done['pid'])}@{escape(done['version'])} is in {escape(done['organization'])}")
    console.print(f"  id {done['id']}")
    if used_in := done["used_in"]:
        # The chat in the terminal finds a stack by its directory; one that is elsewhere it does not reach.
        chat = f"; talk to it: uv run cadence chat '{used_in}'{directory.command_options()}" if is_here else ""
        console.print(f"  {escape(used_in + ' uses it now' + chat)}")


async def _push(
    url: str,
    token: str | None,
    login: tuple[str, str] | None,
    package: bytes,
    org: str | None,
    use_in: str | None,
    tag: str | None,
    *,
    is_quiet: bool,
) -> dict[str, Any]:
    import aiohttp

    from deploy.demo.api import CadenceAPI
    from deploy.plugins.pushing import activate, find_organization, upload

    timeout = aiohttp.ClientTimeout(total=UPLOAD_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        api = CadenceAPI(url, session)
        if login is not None:
            await api.login(*login)
        else:
            api.headers = {"Authorization": f"Bearer {token}"}
        org_id, organization = await find_organization(api, org)
        with _progress(len(package), is_quiet=is_quiet) as on_sent:
            plugin = await upload(api, org_id, package, tag=tag, on_sent=on_sent)
        used_in = await activate(api, org_id, use_in, plugin) if use_in is not None else None
    shown = ("id", "pid", "version", "digest", "is_latest")
    return {
        **{key: plugin.get(key) for key in shown},
        "org_id": org_id,
        "organization": organization,
        "used_in": used_in,
    }


@contextmanager
def _progress(size_bytes: int, *, is_quiet: bool) -> Iterator[Any]:
    """A bar on a terminal; nothing where the output is read by something else."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True, disable=is_quiet or not console.is_terminal) as progress:
        task = progress.add_task("uploading", total=size_bytes)

        def on_sent(sent_bytes: int) -> None:
            is_sent = sent_bytes >= size_bytes
            progress.update(task, completed=sent_bytes, description="being inspected" if is_sent else "uploading")

        yield on_sent


def _tell_refusal(refused: "CallRefused", *, as_json: bool) -> None:
    if as_json:
        reasons = [{"field": field, "message": message} for field, message in refused.reasons]
        typer.echo(msgspec.json.encode({"code": refused.code, "detail": refused.detail, "errors": reasons}))
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(
        f"[red]✗ Could not {escape(refused.doing)}[/]: {escape(refused.detail) if not refused.reasons else ''}"
    )
    for field, message in refused.reasons:
        console.print(f"  [red]·[/] [dim]{escape(field)}[/] {escape(message)}")
    console.print(f"  [dim]{escape(refused.code)}[/]")
