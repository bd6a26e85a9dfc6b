"""Core statements that are put into an engine's words once, and then given to its driver as they are.

What SQLAlchemy does around each call (find the statement in a cache, gather its parameters, wrap what comes back)
takes several times as long as SQLite takes for a statement, and where votes are written others wait meanwhile.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from sqlalchemy import Column, Connection, Dialect, bindparam
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine, UserDefinedType

Given = Mapping[str, Any]


class Prepared:
    """A statement and how to run it. Rows come back as named tuples, values as the types of the columns say."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        columns = getattr(statement, "exported_columns", ())
        self._types = [column.type for column in columns]
        self._row = _named_tuple([column.key for column in columns])
        self._words: dict[str, _Words] = {}

    def rows(self, connection: Connection, **given: Any) -> list[Any]:
        """Run it with these parameters; the rows, none for a statement that only writes."""
        return together(connection, (self, given))[0]

    def start(self, connection: Connection, given: Given) -> Any:
        """Hand it to the driver with these parameters; the driver's cursor."""
        words = self._in(connection.dialect)
        driver: Any = connection.connection.driver_connection
        return driver.execute(words.sql, words.values(given))

    def fetch(self, connection: Connection, cursor: Any) -> list[Any]:
        """The rows of such a cursor."""
        read = self._in(connection.dialect).read
        return [self._row(*read(row)) for row in cursor] if cursor.description else []

    def _in(self, dialect: Dialect) -> _Words:
        if dialect.name not in self._words:
            self._words[dialect.name] = _in_words(self._statement, self._types, dialect)
        return self._words[dialect.name]


def together(connection: Connection, *asked: tuple[Prepared, Given]) -> list[list[Any]]:
    """Run statements, each with its parameters, one after the other; the rows of each.

    A server gets all of them at once and is waited for once. Errors of the driver come as those of SQLAlchemy.
    """
    cursors: Iterable[Any] = (statement.start(connection, given) for statement, given in asked)
    base = connection.dialect.loaded_dbapi.Error
    try:
        if connection.dialect.name == "postgresql" and len(asked) > 1:
            with connection.connection.driver_connection.pipeline():  # type: ignore[union-attr]
                cursors = list(cursors)
        return [
            statement.fetch(connection, cursor) for (statement, _), cursor in zip(asked, cursors, strict=True)
        ]
    except base as error:
        raise DBAPIError.instance(None, None, error, base, dialect=connection.dialect) from error


def _named_tuple(names: Sequence[str]) -> Any:
    return namedtuple("Row", names, rename=True)


Process = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Words:
    """A statement as one engine says it, and how values go in and come out."""

    sql: str
    order: tuple[str, ...] | None  # names of parameters where they are told by their place
    constants: Given  # parameters the statement brings along
    into: tuple[tuple[str, Process], ...]  # what is done to a parameter
    out_of: tuple[tuple[int, Process], ...]  # what is done to a column

    def values(self, given: Given) -> Any:
        values = {**self.constants, **given}
        for name, process in self.into:
            values[name] = process(values[name])
        return values if self.order is None else [values[name] for name in self.order]

    def read(self, row: Sequence[Any]) -> Sequence[Any]:
        if not self.out_of:
            return row
        values = list(row)
        for place, process in self.out_of:
            values[place] = process(values[place])
        return values


def _in_words(statement: Executable, types: Sequence[TypeEngine[Any]], dialect: Dialect) -> _Words:
    compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    binds = compiled.binds
    into = {name: one.type.dialect_impl(dialect).bind_processor(dialect) for name, one in binds.items()}
    out_of = [one.dialect_impl(dialect).result_processor(dialect, None) for one in types]
    return _Words(
        compiled.string,
        tuple(compiled.positiontup) if compiled.positional else None,
        {name: one.value for name, one in binds.items() if not one.required},
        tuple((name, process) for name, process in into.items() if process is not None),
        tuple((place, process) for place, process in enumerate(out_of) if process is not None),
    )


def one_of(column: Column[str], name: str) -> ColumnElement[bool]:
    """Condition: `column` is one of the list that is given as the parameter `name`, however long it is."""
    return _OneOf(column, bindparam(name, type_=_Listed()))


class _Listed(UserDefinedType[Sequence[str]]):
    """A list of texts as one parameter: an array where the engine has them, else JSON."""

    cache_ok = True

    def get_col_spec(self, **_how: Any) -> str:
        return "TEXT[]"

    def bind_processor(self, dialect: Dialect) -> Process:
        return list if dialect.name == "postgresql" else _as_json


def _as_json(values: Sequence[str]) -> str:
    return f"[{','.join(map(encode_basestring_ascii, values))}]"  # `json.dumps` sets itself up anew for each list


class _OneOf(
    FunctionElement[Any]
):  # not of type Boolean: SQLite would be told `= 1`, and not look into an index
    inherit_cache = True


@compiles(_OneOf)
def _any(element: _OneOf, compiler: Any, **how: Any) -> str:
    column, values = (compiler.process(one, **how) for one in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(_OneOf, "sqlite")
def _in_json(element: _OneOf, compiler: Any, **how: Any) -> str:
    column, values = (compiler.process(one, **how) for one in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"
