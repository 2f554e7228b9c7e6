"""Servers in containers, where neither a URL nor a program of our own is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy


@cache
def engine_answers() -> bool:
    """Asks the engine: a `docker` program on the path says nothing about one."""
    try:
        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


@contextmanager
def container_url(image: str) -> Iterator[str]:
    """Run the server of `image` and give its URL."""
    port, environment, command, ready, url = _RECIPES[image]
    container = DockerContainer(image).with_exposed_ports(port)
    for name, value in environment.items():
        container = container.with_env(name, value)
    if command:
        container = container.with_command(command)
    with container.waiting_for(LogMessageWaitStrategy(ready)) as started:
        place = f"{started.get_container_host_ip()}:{started.get_exposed_port(port)}"
        if image == MONGO:
            started.exec(["mongosh", "--quiet", "--eval", "rs.initiate()"])
        yield url.format(place)


POSTGRES, MONGO, REDIS, NATS, RABBITMQ, S3 = (
    "postgres:17",
    "mongo:7",
    "valkey/valkey:8",
    "nats:2",
    "rabbitmq:4-management",
    "chrislusf/seaweedfs:latest",
)
# image: port, environment, command, what its log says when it is ready, URL
_RECIPES: dict[str, tuple[int, dict[str, str], str, str, str]] = {
    POSTGRES: (
        5432,
        {"POSTGRES_USER": "cadence", "POSTGRES_DB": "cadence", "POSTGRES_HOST_AUTH_METHOD": "trust"},
        "",
        r"PostgreSQL init process complete[\s\S]*ready to accept connections",
        "postgresql://cadence@{}/cadence",
    ),
    MONGO: (27017, {}, "--replSet rs0 --bind_ip_all", "Waiting for connections", "mongodb://{}/?directConnection=true"),
    REDIS: (6379, {}, "", "Ready to accept connections", "redis://{}/0"),
    NATS: (4222, {}, "-js", "Server is ready", "nats://{}"),
    RABBITMQ: (5672, {}, "", "Server startup complete", "amqp://guest:guest@{}/"),
    S3: (8333, {}, "server -s3", "Start Seaweed S3 API", "http://{}"),
}
