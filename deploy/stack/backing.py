"""The servers behind the planes: our own, or those that the environment names."""

from collections.abc import Mapping
from pathlib import Path

from deploy.local.mongo import Mongo
from deploy.local.nats import Nats
from deploy.local.postgres import Postgres
from deploy.local.server import Server
from deploy.local.valkey import Valkey

MIGRATION_URL = "CADENCE_POSTGRES_MIGRATION_URL"

EMBEDDED: Mapping[str, type[Server]] = {
    "CADENCE_POSTGRES_URL": Postgres,
    "CADENCE_MONGO_URL": Mongo,
    "CADENCE_REDIS_URL": Valkey,
    "CADENCE_BROKER_URL": Nats,
}


def chosen(variables: Mapping[str, str], home: Path) -> tuple[dict[str, Server], dict[str, str]]:
    """The servers to start, and the URLs of all by their variable. One that is set already is used instead of ours.

    MIGRATION_URL is among them where the login that owns the tables is another than the application's.
    """
    own = {variable: server(home) for variable, server in EMBEDDED.items() if not _given(variables, variable)}
    urls = {variable: own[variable].url if variable in own else _given(variables, variable) for variable in EMBEDDED}
    postgres = own.get("CADENCE_POSTGRES_URL")
    if isinstance(postgres, Postgres):
        urls |= {"CADENCE_POSTGRES_URL": postgres.application_url, MIGRATION_URL: postgres.url}
    elif owner := variables.get(MIGRATION_URL, ""):
        urls[MIGRATION_URL] = owner
    return own, urls


def owners_url(urls: Mapping[str, str]) -> str:
    """PostgreSQL's, with the login that owns the tables and so sees every row."""
    return urls.get(MIGRATION_URL) or urls["CADENCE_POSTGRES_URL"]


def _given(variables: Mapping[str, str], variable: str) -> str:
    also = "CADENCE_RABBITMQ_URL" if variable == "CADENCE_BROKER_URL" else variable
    return variables.get(variable, "") or variables.get(also, "")
