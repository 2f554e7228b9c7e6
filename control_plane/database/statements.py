"""SQL that goes to the driver as it is: the few statements of every request, on which an ORM would spend more time than
PostgreSQL does. Each is compiled once, and prepared once on each connection.
"""

from collections.abc import Sequence
from typing import Any

from psycopg.abc import Buffer, Transformer
from psycopg.adapt import PyFormat
from psycopg.pq import Format
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import asyncpg

Row = tuple[Any, ...]

# It only writes: parameters as `$1::UUID`, the way PostgreSQL itself has them.
_dialect = asyncpg.dialect()


class Question:
    """A statement with its values, as a connection sends it."""

    __slots__ = ("sql", "values")

    def __init__(self, sql: bytes, values: tuple[Any, ...] = ()) -> None:
        self.sql = sql
        self.values = values

    def dumped(self, transformer: Transformer) -> tuple[Sequence[Buffer | None], Sequence[Format] | None]:
        """The values as text, whatever they are: PostgreSQL knows what each parameter has to become. Raises
        psycopg.DataError for what it cannot hold.
        """
        return transformer.dump_sequence(self.values, (PyFormat.TEXT,) * len(self.values)), transformer.formats


class Statement:
    """Made of a query or a change whose values are all named `bindparam`s; called with those it is a Question."""

    def __init__(self, clause: ClauseElement) -> None:
        compiled: Any = clause.compile(dialect=_dialect)
        self._sql = str(compiled).encode()
        self._names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}

    def __call__(self, **values: Any) -> Question:
        """JSON is given as text."""
        given = {**self._fixed, **values} if self._fixed else values
        return Question(self._sql, tuple([given[name] for name in self._names]))


BEGIN = Question(b"BEGIN")
BEGIN_VIEW = Question(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
COMMIT = Question(b"COMMIT")
