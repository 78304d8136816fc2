"""Query statements of exports are parsed."""

from __future__ import annotations

from aws_lambda.resources.export_definition import parse_query


def test_query_that_cannot_be_parsed_is_empty() -> None:
    """An empty query differs from every desired one and therefore counts as drift."""
    assert parse_query("WITH x AS (SELECT 1) SELECT * FROM x JOIN y").table == ""
    query = parse_query("select a,\n b from T where a = 1;")
    assert (query.columns, query.table, query.rest) == (("a", "b"), "T", "where a = 1")
