"""The servers behind the planes: our own, or those that the environment names."""

from collections.abc import Mapping
from pathlib import Path

from deploy.local.mongo import Mongo
from deploy.local.nats import Nats
from deploy.local.postgres import Postgres
from deploy.local.server import Server
from deploy.local.valkey import Valkey

EMBEDDED: Mapping[str, type[Server]] = {
    "CADENCE_POSTGRES_URL": Postgres,
    "CADENCE_MONGO_URL": Mongo,
    "CADENCE_REDIS_URL": Valkey,
    "CADENCE_BROKER_URL": Nats,
}


def chosen(variables: Mapping[str, str], home: Path) -> tuple[dict[str, Server], dict[str, str]]:
    """The servers to start, and the URLs of all by their variable. One that is set already is used instead of ours."""
    own = {variable: server(home) for variable, server in EMBEDDED.items() if not _given(variables, variable)}
    urls = {variable: own[variable].url if variable in own else _given(variables, variable) for variable in EMBEDDED}
    return own, urls


def _given(variables: Mapping[str, str], variable: str) -> str:
    also = "CADENCE_RABBITMQ_URL" if variable == "CADENCE_BROKER_URL" else variable
    return variables.get(variable, "") or variables.get(also, "")
