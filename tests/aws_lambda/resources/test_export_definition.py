"""Query statements of exports are parsed."""

from __future__ import annotations

from aws_lambda.resources.export_definition import parse_query


def test_a_query_that_is_not_understood_counts_as_drift() -> None:
    """It asks for nothing that can be compared."""
    assert parse_query("WITH x AS (SELECT 1) SELECT * FROM x JOIN y").table == ""
    query = parse_query("select a,\n b from T where a = 1;")
    assert (query.columns, query.table, query.rest) == (("a", "b"), "T", "where a = 1")
