"""What a script of SQL reads and writes, according to DataHub's parser.

Importing this takes more than a second, so it is done only where there is SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import sqlglot
from datahub.metadata.urns import DatasetUrn
from datahub.sql_parsing.schema_resolver import SchemaResolver
from datahub.sql_parsing.sql_parsing_common import QueryType
from datahub.sql_parsing.sqlglot_lineage import (
    SqlParsingResult,
    UnsupportedStatementTypeError,
    sqlglot_lineage,
)
from datahub.sql_parsing.sqlglot_utils import get_dialect, get_query_fingerprint, parse_statement
from sqlglot import exp
from sqlglot.errors import SqlglotError

from datahub_eventlog.translate.datasets import Column
from datahub_eventlog.translate.lineage.paths import LOCAL

Columns: TypeAlias = Mapping[str, frozenset[Column]]
"""For each column that is written, those that its values come from."""


@dataclass(frozen=True)
class Dialect:
    """Where the SQL runs, and what a table's name means there if it is not whole."""

    platform: str
    env: str
    platform_instance: str | None = None
    database: str | None = None
    schema: str | None = None


@dataclass(frozen=True)
class Script:
    """What the statements of a script read and write together."""

    upstreams: frozenset[str] = frozenset()
    downstreams: frozenset[str] = frozenset()
    columns: Mapping[str | None, Columns] = field(default_factory=dict)
    """By the dataset that is written; under None what a plain SELECT returns."""
    faults: tuple[str, ...] = ()
    """The numbers of the statements that could not be read, and why; never their text."""


class OfflineResolver(SchemaResolver):
    """Names tables as DataHub's resolver does, without its cache, and knows no columns.

    Two for the same dialect are equal, so that the parser's own cache serves the next run as well.
    """

    def __init__(self, dialect: Dialect) -> None:
        """Take what the names are made of; the base class would open a database for its cache."""
        self._platform = dialect.platform
        self.platform_instance = dialect.platform_instance
        self.env = dialect.env
        self.graph = None

    def resolve_table(self, table: Any) -> tuple[str, None]:
        """The urn that DataHub's sources give a table of which only the name is known.

        A file that DuckDB reads by its name is on the platform `file`, under that name.
        """
        if self._platform == "duckdb" and _FILE.search(table.table):
            return DatasetUrn(LOCAL, table.table, self.env).urn(), None
        lower = self._prefers_urn_lower()
        return self.get_urn_for_table(table, lower=lower, mixed=lower), None

    def close(self) -> None:
        """There is nothing to close."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OfflineResolver) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str, str | None]:
        return (self._platform, self.env, self.platform_instance)


def fingerprint(text: str, platform_urn: str) -> str:
    """The id of a query as the sensor plugin computes it.

    The plugin gives the platform's urn where a name is expected, and so hashes the plain text.
    """
    return get_query_fingerprint(text, platform_urn)


def read_script(text: str, dialect: Dialect, resolver: Any = None) -> Script:
    """What all statements of the text read and write.

    Tables that it makes only for itself, or writes before it reads them, are not upstream. What
    they were made of is. `resolver` is DataHub's, if it can look up the tables' columns.
    """
    reader = _ScriptReader(dialect, resolver)
    try:
        statements = list(reader.statements(text))
    except SqlglotError as error:
        return Script(faults=(_why(error),))
    for number, statement in enumerate(statements, start=1):
        where = f"statement {number}: " if len(statements) > 1 else ""
        reader.add(statement, where)
    return reader.script()


class _ScriptReader:
    """Takes the statements of a script in their order."""

    def __init__(self, dialect: Dialect, resolver: Any) -> None:
        self._dialect = dialect
        self._resolver = resolver or OfflineResolver(dialect)
        self._sqlglot = _sqlglot_dialect(dialect.platform)
        self._read: set[str] = set()
        self._written: dict[str, set[str]] = {}
        self._temporary: set[str] = set()
        self._columns: dict[str | None, dict[str, set[Column]]] = {}
        self._faults: list[str] = []

    def statements(self, text: str) -> Iterator[str]:
        """The statements one by one, without empty ones; raises `SqlglotError`."""
        begin: int | None = None
        for token in self._sqlglot.tokenize(text):
            if token.token_type.name == "SEMICOLON":
                if begin is not None:
                    yield text[begin : token.start]
                begin = None
            elif begin is None:
                begin = token.start
        if begin is not None:
            yield text[begin:]

    def add(self, statement: str, where: str) -> None:
        result = self._lineage(statement)
        if error := result.debug_info.table_error:
            # A CALL or an ALTER SESSION that isn't supported has no lineage to lose.
            is_unsupported = isinstance(error, UnsupportedStatementTypeError)
            if not is_unsupported or _WITH_LINEAGE.match(statement):
                self._faults.append(f"{where}{_why(error)}")
        elif result.query_type in _WRITING or (result.query_type is _SELECT and result.out_tables):
            self._add_writing(statement, result)
        elif result.query_type is _SELECT:
            self._read |= self._sources(result.in_tables)
            self._add_columns(None, _columns_of(result.column_lineage))
        elif _USE.match(statement):
            self._dialect = _after_use(self._dialect, parse_statement(statement, self._sqlglot))

    def script(self) -> Script:
        """Everything together."""
        written = self._written.keys()
        kept = {None, *written} - self._temporary
        columns = {
            table: {
                name: frozenset(sources) for name, sources in sorted(columns.items()) if sources
            }
            for table, columns in self._columns.items()
            if table in kept
        }
        return Script(
            upstreams=frozenset(self._read - written),
            downstreams=frozenset(written - self._temporary),
            columns={table: sources for table, sources in columns.items() if sources},
            faults=tuple(self._faults),
        )

    def _lineage(self, statement: str) -> SqlParsingResult:
        dialect = self._dialect
        # By position: the name of the last one has changed between versions.
        return sqlglot_lineage(
            statement, self._resolver, dialect.database, dialect.schema, self._sqlglot
        )

    def _add_writing(self, statement: str, result: SqlParsingResult) -> None:
        derives = result.query_type is not QueryType.DELETE
        sources = self._sources(result.in_tables) if derives else set()
        self._read |= sources - set(result.out_tables)
        for table in result.out_tables:
            self._written.setdefault(table, set()).update(sources - {table})
            if result.query_type_props.get("temporary") or _is_temporary(table, statement):
                self._temporary.add(table)
        if len(result.out_tables) == 1:
            self._add_columns(result.out_tables[0], self._written_columns(statement, result))

    def _sources(self, tables: Iterable[str]) -> set[str]:
        """The tables; for one that the script wrote itself, what that was made of."""
        return {source for table in tables for source in self._written.get(table, {table})}

    def _written_columns(
        self, statement: str, result: SqlParsingResult
    ) -> list[tuple[str, list[Column]]]:
        if result.query_type is QueryType.MERGE:
            selects = _merge_selects(parse_statement(statement, self._sqlglot), self._sqlglot)
            results = (self._lineage(select) for select in selects)
            return [pair for result in results for pair in _columns_of(result.column_lineage)]
        columns = _columns_of(result.column_lineage)
        if result.query_type is not QueryType.INSERT:
            return columns
        names = _insert_columns(parse_statement(statement, self._sqlglot))
        if len(names) != len(columns):
            return columns
        return [(name, sources) for name, (_, sources) in zip(names, columns, strict=True)]

    def _add_columns(self, table: str | None, written: list[tuple[str, list[Column]]]) -> None:
        resolved = [(name, self._column_sources(table, sources)) for name, sources in written]
        columns = self._columns.setdefault(table, {})
        for name, sources in resolved:
            columns.setdefault(name, set()).update(sources)

    def _column_sources(self, table: str | None, sources: Iterable[Column]) -> set[Column]:
        bases: set[Column] = set()
        for source in sources:
            if source[0] in self._written:
                bases |= self._columns.get(source[0], {}).get(source[1], set())
            elif source[0] != table and source[1]:
                bases.add(source)
        return bases


def _columns_of(lineage: Iterable[Any] | None) -> list[tuple[str, list[Column]]]:
    """The columns that a statement returns or writes, each with its sources."""
    return [
        (edge.downstream.column, [(ref.table, ref.column) for ref in edge.upstreams])
        for edge in lineage or ()
    ]


_SELECT = QueryType.SELECT
_WRITING = frozenset(
    {
        QueryType.CREATE_DDL,
        QueryType.CREATE_VIEW,
        QueryType.CREATE_TABLE_AS_SELECT,
        QueryType.INSERT,
        QueryType.UPDATE,
        QueryType.DELETE,
        QueryType.MERGE,
    }
)
_FILE = re.compile(r"[/\\*]|\.(?:parquet|csv|tsv|json|ndjson|jsonl|xlsx|gz)$", re.IGNORECASE)
_USE = re.compile(r"\s*use\b", re.IGNORECASE)
_WITH_LINEAGE = re.compile(
    r"\s*(?:with|select|insert|merge|update|create|replace)\b", re.IGNORECASE
)


def _why(error: Exception) -> str:
    """What went wrong, without the SQL, which can hold a secret."""
    for detail in getattr(error, "errors", None) or ():
        return f"it can't be parsed at line {detail.get('line')}, column {detail.get('col')}"
    if isinstance(error, UnsupportedStatementTypeError):
        return "DataHub's parser does not support it"
    return f"it can't be parsed ({type(error).__name__})"


def _sqlglot_dialect(platform: str) -> sqlglot.Dialect:
    """The platform's dialect, or standard SQL for a platform that sqlglot doesn't know."""
    try:
        return get_dialect(platform)
    except ValueError:
        return sqlglot.Dialect()


def _insert_columns(statement: exp.Expression) -> list[str]:
    """The columns that an INSERT names; the parser takes those of its SELECT instead."""
    target = statement.this if isinstance(statement, exp.Insert) else None
    return [column.name for column in target.expressions] if isinstance(target, exp.Schema) else []


def _merge_selects(statement: exp.Expression, dialect: sqlglot.Dialect) -> Iterator[str]:
    """A SELECT for each branch of a MERGE, which returns what the branch writes."""
    if not isinstance(statement, exp.Merge):
        return
    source, target = statement.args["using"], statement.this
    for branch in statement.find_all(exp.When):
        then = branch.args.get("then")
        pairs = _assignments(then)
        if not pairs:
            continue
        values = [exp.alias_(value.copy(), name, quoted=True) for name, value in pairs]
        select = exp.select(*values).from_(source.copy())
        if isinstance(then, exp.Update):  # an INSERT can't read the target
            select = select.join(target.copy(), join_type="cross")
        yield select.sql(dialect=dialect)


def _assignments(branch: Any) -> list[tuple[str, exp.Expression]]:
    """The columns that a branch of a MERGE sets, and to what; none if it doesn't name them."""
    if isinstance(branch, exp.Update):
        equations = [equation for equation in branch.expressions if isinstance(equation, exp.EQ)]
        return [(equation.this.name, equation.expression) for equation in equations]
    if not isinstance(branch, exp.Insert):
        return []
    names, values = branch.this, branch.expression
    if not isinstance(names, exp.Tuple) or not isinstance(values, exp.Tuple):
        return []
    return [(a.name, b) for a, b in zip(names.expressions, values.expressions, strict=False)]


def _is_temporary(table: str, statement: str) -> bool:
    """Whether T-SQL or Redshift drops it by itself; the urn lacks its `#` in some versions."""
    name = DatasetUrn.from_string(table).name.rpartition(".")[2].lower()
    marked = re.search(rf"#{re.escape(name)}\b", statement, re.IGNORECASE)
    return name.startswith("#") or marked is not None


def _after_use(names: Dialect, statement: exp.Expression) -> Dialect:
    """What a table's name means after a USE."""
    if not isinstance(statement, exp.Use):
        return names
    kind = statement.args.get("kind")
    scope = kind.name.upper() if isinstance(kind, exp.Expression) else ""
    parts = [part.name for part in getattr(statement.this, "parts", ())]
    if not parts or scope not in ("", "DATABASE", "CATALOG", "SCHEMA"):
        return names
    if scope == "SCHEMA" or len(parts) > 1:
        return replace(names, schema=parts[-1], database=[names.database, *parts][-2])
    if scope == "" and names.database is None:
        return replace(names, schema=parts[0])
    return replace(names, database=parts[0], schema=None)
