"""One migrated database as a template, and a clone of it for every test.

Tests use the application's login, as the application does; the owner's is for those that look behind it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from alembic import command
from psycopg import sql

from migrations.__main__ import config


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def application_url(url: str) -> str:
    """The same database, with the login that the application has."""
    parts = urlsplit(url)
    _, _, address = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"cadence_app:a-password-for-tests@{address}"))


def migrate(url: str) -> None:
    """As an operator does: the schema, and the application's login."""
    command.upgrade(config(url, application_url=application_url(url)), "head")


class Databases:
    """Makes databases on one server. The template is migrated when the first clone is asked for."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._template: str | None = None
        self._connection: psycopg.Connection | None = None

    @contextmanager
    def clone(self) -> Iterator[str]:
        """The owner's URL of a database with the newest schema and nothing in it."""
        if self._template is None:
            self._template = self._create(None)
            migrate(with_database(self._server_url, self._template))
        name = self._create(self._template)
        try:
            yield with_database(self._server_url, name)
        finally:
            self._drop(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a database without any table."""
        name = self._create(None)
        try:
            yield with_database(self._server_url, name)
        finally:
            self._drop(name)

    def close(self) -> None:
        if self._template is not None:
            self._drop(self._template)
        if self._connection is not None:
            self._connection.close()

    def _create(self, template: str | None) -> str:
        name = f"cadence_test_{os.getpid()}_{uuid4().hex[:12]}"
        # Copying files is quicker than writing every page to the log, on a server that never waits for its disk.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
            sql.Identifier(name), sql.Identifier(template or "template0")
        )
        self._execute(statement)
        return name

    def _drop(self, name: str) -> None:
        # FORCE: a test's pool may close its connections only after the fixture that made the database.
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        # One connection for all of them: each is a process of the server.
        if self._connection is None:
            self._connection = psycopg.connect(self._server_url, autocommit=True)
        try:
            self._connection.execute(statement)
        except psycopg.OperationalError:
            # A test may have ended every connection that there was.
            self._connection.close()
            self._connection = psycopg.connect(self._server_url, autocommit=True)
            self._connection.execute(statement)
