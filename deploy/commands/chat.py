"""`cadence chat` and `cadence token`: using a running stack from a terminal, as its admin."""

import asyncio
from typing import Annotated

import typer

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, running_stack
from deploy.stack.data_dir import DataDirectory
from deploy.stack.secrets import StackSecrets, load_or_create

UserOption = Annotated[str | None, typer.Option("--username", help="Log in as this user instead of the admin.")]
PasswordOption = Annotated[
    str | None, typer.Option("--password", help="That user's password.", envvar="CADENCE_PASSWORD")
]


def chat(
    instance: Annotated[str | None, typer.Argument(help="Id or name; may be left out when there is only one.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Say this, print the answer, end.")] = None,
    username: UserOption = None,
    password: PasswordOption = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Talk to an orchestrator of the running stack.

    Its tools are shown at work. Ctrl-D ends.

    Example: cadence chat "Demo assistant" -m "How many kilometres are 26.2 miles?"
    """
    directory = DataDirectory(data_dir)
    url = running_stack(directory).url
    login = _login(directory, username, password)
    try:
        asyncio.run(_talk(url, login, instance, message, as_json=as_json))
    except KeyboardInterrupt:
        return


def token(
    username: UserOption = None, password: PasswordOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR
) -> None:
    """Log in to the running stack and print a token.

    Example: curl http://127.0.0.1:8000/api/me -H "Authorization: Bearer $(cadence token)"
    """
    directory = DataDirectory(data_dir)
    url = running_stack(directory).url
    # Here, so that no other command waits for these to be loaded.
    import aiohttp

    from deploy.demo.api import CadenceAPI

    async def log_in() -> str:
        async with aiohttp.ClientSession() as session:
            return await CadenceAPI(url, session).login(*_login(directory, username, password))

    typer.echo(asyncio.run(log_in()))


def _login(directory: DataDirectory, username: str | None, password: str | None) -> tuple[str, str]:
    if username is None:
        secrets: StackSecrets = load_or_create(directory)
        return secrets.admin_username, secrets.admin_password
    return username, password if password is not None else str(typer.prompt("Password", hide_input=True))


async def _talk(url: str, login: tuple[str, str], instance: str | None, message: str | None, *, as_json: bool) -> None:
    import aiohttp
    from rich.console import Console

    from deploy.demo.api import CadenceAPI
    from deploy.stack.conversation import Conversation, find_orchestrator

    # A run may take minutes; only silence is an error, and the server breaks it every 15 s.
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        api = CadenceAPI(url, session)
        bearer = await api.login(*login)
        path = await find_orchestrator(api, instance)
        conversation = Conversation(session, url + path, bearer, Console(), as_json=as_json)
        if message is not None:
            if not await conversation.say(message):
                raise typer.Exit(1)
            return
        while (text := await asyncio.to_thread(_ask)) is not None:
            if text.strip():
                await conversation.say(text)


def _ask() -> str | None:
    try:
        return input("you> ")
    except EOFError:
        return None
