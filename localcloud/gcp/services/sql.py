"""Translates GoogleSQL for DuckDB: parameters, table names, pseudo columns, wildcards and `INFORMATION_SCHEMA`.

A query that cannot be translated exactly fails with the reason; no result is approximate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from localcloud.gcp.errors import job_error, unimplemented
from localcloud.gcp.services.schema import literal, quoted

_VIEW = re.compile(r"(?:(.*)\.)?INFORMATION_SCHEMA\.(\w+)", re.IGNORECASE)
_ESCAPE = re.compile(r"\x1b\[\d*m")
_PSEUDO = ("_PARTITIONTIME", "_TABLE_SUFFIX")
_SUFFIX = "_TABLE_SUFFIX"


@dataclass(frozen=True)
class Source:
    """A table that a query references: `view` is set for ``INFORMATION_SCHEMA``, `table` may end in ``*``."""

    project: str
    dataset: str
    table: str = ""
    view: str = ""


@dataclass(frozen=True)
class Relation:
    """A source's replacement in DuckDB: a subquery, and the pseudo columns that ``*`` excludes."""

    sql: str
    pseudo: tuple[str, ...]


@dataclass
class Statement:
    """A parsed query and its sources."""

    tree: exp.Expr
    sources: list[tuple[exp.Table, Source]] = field(default_factory=list)

    def write(self, resolve: Callable[[Source, exp.Expr], Relation], now: datetime) -> str:
        """Return the query in DuckDB's SQL. `resolve` receives each source and the SELECT that reads it."""
        hidden: dict[int, list[str]] = {}
        for node, source in self.sources:
            select = node.find_ancestor(exp.Select)
            relation = resolve(source, select or self.tree)
            alias = node.alias or source.view or source.table.rstrip("*").rstrip("_") or "t"
            alias = source.view if source.view and "." in alias else alias
            # The relation is already DuckDB's SQL; parsing and copying it would dominate the run time.
            written = exp.Var(this=relation.sql)
            node.replace(exp.alias_(exp.Subquery(this=written), alias, table=True, quoted=True, copy=False))
            if select is not None:
                hidden.setdefault(id(select), []).extend(relation.pseudo)
        for select in self.tree.find_all(exp.Select):
            names = list(dict.fromkeys(hidden.get(id(select), [])))
            stars = [item for item in select.expressions if isinstance(item, exp.Star)]
            if names and stars:
                left_out = [exp.to_identifier(name) for name in names]
                stars[0].set("except_", [*(stars[0].args.get("except_") or []), *left_out])
        return self.tree.transform(_translate, now, copy=False).sql(dialect="duckdb", copy=False)


def parse(query: str, parameters: Mapping[str, str] | list[str], project: str, dataset: str) -> Statement:
    """Parse a query. `parameters` are literals in GoogleSQL, by name or in order.

    Raises GoogleError (`invalidQuery`) for an invalid query, 501 for unsupported statements.
    """
    try:
        trees = _parsed(query)
    except SqlglotError as error:
        # The parser adds terminal escape codes, which a job's error does not contain.
        first = _ESCAPE.sub("", str(error)).partition("\n")[0]
        raise job_error("invalidQuery", f"Syntax error: {first}") from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise unimplemented("Anything but one query (DDL, DML, scripts)")
    tree = _with_parameters(trees[0].copy(), parameters)
    statement = Statement(tree)
    names = {cte.alias for cte in tree.find_all(exp.CTE)}
    for node in list(tree.find_all(exp.Table)):
        if not isinstance(node.this, exp.Identifier):
            raise unimplemented("A table function")
        if node.name in names and not node.db:
            continue
        source = _source(node, project, dataset)
        if source is None:
            raise job_error("invalid", f'Table "{node.name}" must be qualified with a dataset (e.g. dataset.table).')
        statement.sources.append((node, source))
    return statement


@lru_cache(maxsize=64)  # the function sends the same few queries with varying parameters
def _parsed(query: str) -> list[exp.Expr]:
    return [tree for tree in sqlglot.parse(query, read="bigquery") if tree is not None]


def _source(node: exp.Table, project: str, dataset: str) -> Source | None:
    parts = [part for part in (node.catalog, node.db, node.name) if part]
    view = _VIEW.fullmatch(".".join(parts))
    if view:
        where = (view[1] or dataset).split(".")
        if not where[0]:
            return None
        owner = ".".join(where[:-1]) or project
        return Source(owner, where[-1], view=view[2].upper())
    # The parser may return a name in one pair of backticks as one identifier or as several.
    parts = ".".join(parts).rsplit(".", 2)
    if len(parts) == 1:
        return Source(project, dataset, parts[0]) if dataset else None
    return Source(parts[0] if len(parts) == 3 else project, parts[-2], parts[-1])


def _with_parameters(tree: exp.Expr, parameters: Mapping[str, str] | list[str]) -> exp.Expr:
    remaining = list(parameters) if isinstance(parameters, list) else []

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Parameter):
            name = node.name
            if isinstance(parameters, list) or name not in parameters:
                raise job_error("invalidQuery", f"Query parameter '{name}' not found")
            return sqlglot.parse_one(parameters[name], read="bigquery")
        if isinstance(node, exp.Placeholder):
            if not remaining:
                raise job_error("invalidQuery", "Query has more positional parameters than were given")
            return sqlglot.parse_one(remaining.pop(0), read="bigquery")
        return node

    return tree.transform(replaced, copy=False)


def _translate(node: exp.Expr, now: datetime) -> exp.Expr:
    if isinstance(node, exp.DataType) and node.this == exp.DataType.Type.TIMESTAMPTZ:
        # All timestamps are stored in UTC, without a time zone.
        return exp.DataType.build("TIMESTAMP")
    if isinstance(node, exp.CurrentTimestamp):
        return exp.cast(exp.Literal.string(now.strftime("%Y-%m-%d %H:%M:%S.%f")), "TIMESTAMP")
    if isinstance(node, exp.CurrentDate):
        return exp.cast(exp.Literal.string(now.date().isoformat()), "DATE")
    if isinstance(node, exp.Column) and node.name.upper() == "_PARTITIONDATE":
        return exp.cast(exp.column("_PARTITIONTIME", table=node.table or None), "DATE")
    if isinstance(node, exp.In) and isinstance(node.args.get("unnest"), exp.Unnest):
        arrays = node.args["unnest"].expressions
        if len(arrays) == 1 and isinstance(arrays[0], exp.Array):
            items = arrays[0].expressions
            return exp.In(this=node.this, expressions=items) if items else exp.false()
    return node


def table_relation(rows: str, columns: list[str], uid: int) -> Relation:
    """Return the relation of one table."""
    names = ", ".join(quoted(name) for name in columns)
    return Relation(f"SELECT {names}, _PARTITIONTIME FROM {rows} WHERE _table = {uid}", ("_PARTITIONTIME",))


def wildcard_relation(
    shapes: Sequence[tuple[str, tuple[str, ...]]], project: str, dataset: str, prefix: str
) -> Relation:
    """Return the relation of a wildcard over tables stored in these DuckDB tables with these columns."""
    parts = []
    for rows, columns in shapes:
        names = ", ".join(f"r.{quoted(name)}" for name in columns)
        parts.append(
            f"SELECT {names}, r._PARTITIONTIME, substring(n.table_name, {len(prefix) + 1}) AS {_SUFFIX} "
            f"FROM {rows} AS r JOIN names AS n ON r._table = n._table WHERE n.table_catalog = {literal(project)} "
            f"AND n.table_schema = {literal(dataset)} AND starts_with(n.table_name, {literal(prefix)})"
        )
    return Relation(" UNION ALL BY NAME ".join(parts), _PSEUDO)


def constants(value: Mapping[str, Any], kind: Mapping[str, Any]) -> str:
    """Return a query parameter as a GoogleSQL literal. Raises GoogleError for an unsupported type."""
    name = str(kind.get("type", "")).upper()
    if name == "ARRAY":
        items = [constants(item, kind["arrayType"]) for item in value.get("arrayValues", [])]
        return f"[{', '.join(items)}]"
    text = value.get("value")
    if text is None:
        return "NULL"
    if name == "STRING":
        return "'" + str(text).replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    if name in ("INT64", "INTEGER") and re.fullmatch(r"-?\d+", str(text)):
        return str(text)
    if name in ("FLOAT64", "NUMERIC") and re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", str(text), re.IGNORECASE):
        return str(text)
    if name in ("BOOL", "BOOLEAN"):
        return "TRUE" if str(text).lower() == "true" else "FALSE"
    if name in ("DATE", "TIMESTAMP") and re.fullmatch(r"[\d\-: T.+Z]+(UTC)?", str(text)):
        return f"{name} '{text}'"
    raise unimplemented(f"A query parameter of type {name}")
