"""`cadence psql`, `mongo`, `redis`: a prompt on a store of the running stack, or on the one the environment names."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import typer

from deploy.commands.options import DEFAULT_DATA_DIR, DataDirOption, running_stack
from deploy.errors import ServerUnavailable
from deploy.stack.data_dir import DataDirectory

_MONGO_PROMPT = """
import os
from bson import ObjectId
from pymongo import MongoClient
client = MongoClient(os.environ["CADENCE_MONGO_URL"])
print("client:", client.address, "| databases:", ", ".join(client.list_database_names()))
print('One database per organization, for instance client["cadence_…"].messages.find_one()')
"""


def psql(context: typer.Context, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Open psql; further arguments are psql's.

    Example: cadence psql -c 'SELECT name, status FROM organizations'
    """
    from deploy.local.postgres import postgres_program

    try:
        program = str(postgres_program("psql"))
    except ServerUnavailable:
        program = _installed("psql")
    url = _postgres_owner_url(data_dir)
    os.execv(program, [program, url, *context.args])  # noqa: S606 - becoming the prompt is the purpose


def mongo(context: typer.Context, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Open mongosh, or where that is missing Python with a connected client.

    Example: cadence mongo
    """
    url = _url("CADENCE_MONGO_URL", data_dir)
    if program := shutil.which("mongosh"):
        os.execv(program, [program, url, *context.args])  # noqa: S606 - becoming the prompt is the purpose
    environment = {**os.environ, "CADENCE_MONGO_URL": url}
    os.execve(sys.executable, [sys.executable, "-q", "-i", "-c", _MONGO_PROMPT], environment)  # noqa: S606


def redis(context: typer.Context, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Run one Redis command, or prompt for them.

    Example: cadence redis KEYS 'worker:*'
    """
    from redis import Redis
    from redis.exceptions import RedisError

    with Redis.from_url(_url("CADENCE_REDIS_URL", data_dir), decode_responses=True) as client:
        if context.args:
            try:
                _print_answer(client.execute_command(*context.args))
            except RedisError as error:
                typer.echo(f"(error) {error}", err=True)
                raise typer.Exit(1) from None
            return
        while (line := _ask("redis> ")) is not None:
            try:
                if words := shlex.split(line):
                    _print_answer(client.execute_command(*words))
            except (RedisError, ValueError) as error:
                typer.echo(f"(error) {error}")


def _print_answer(answer: object, indent: str = "") -> None:
    if isinstance(answer, dict):
        for key, value in answer.items():
            typer.echo(f"{indent}{key}: {value}")
    elif isinstance(answer, (list, tuple, set)):
        for number, item in enumerate(answer, start=1):
            typer.echo(f"{indent}{number}) {item}")
        if not answer:
            typer.echo(f"{indent}(empty)")
    else:
        typer.echo(indent + ("(nil)" if answer is None else str(answer)))


def _ask(prompt: str) -> str | None:
    """A line from the operator, None at the end."""
    try:
        return input(prompt if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        return None


def _url(variable: str, data_dir: Path) -> str:
    return os.environ.get(variable) or running_stack(DataDirectory(data_dir)).backing[variable]


def _postgres_owner_url(data_dir: Path) -> str:
    """The application's own login would show an operator no row."""
    from deploy.stack.backing import owners_url

    is_given = "CADENCE_POSTGRES_URL" in os.environ
    return owners_url(os.environ if is_given else running_stack(DataDirectory(data_dir)).backing)


def _installed(name: str) -> str:
    if program := shutil.which(name):
        return program
    raise ServerUnavailable(f"The program {name} is neither installed nor in a package of the environment.")
