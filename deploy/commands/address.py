"""`cadence url`: where an orchestrator answers."""

import asyncio
from typing import Annotated

import typer

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, running_stack
from deploy.stack.data_dir import DataDirectory
from deploy.stack.secrets import load_or_create


def url(
    instance: Annotated[str | None, typer.Argument(help="Id or name; may be left out when there is only one.")] = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Print the URL of an orchestrator of the running stack; its chat endpoints lie below it.

    Example: curl "$(cadence url)/status" -H "Authorization: Bearer $(cadence token)"
    """
    directory = DataDirectory(data_dir)
    base_url = running_stack(directory).url
    secrets = load_or_create(directory)
    # Here, so that no other command waits for these to be loaded.
    import aiohttp

    from deploy.demo.api import CadenceAPI
    from deploy.stack.conversation import find_orchestrator

    async def look_up() -> str:
        async with aiohttp.ClientSession() as session:
            api = CadenceAPI(base_url, session)
            await api.login(secrets.admin_username, secrets.admin_password)
            return base_url + await find_orchestrator(api, instance)

    typer.echo(asyncio.run(look_up()))
