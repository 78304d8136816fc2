"""The number of rows and the columns of a Parquet file, read from its footer."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcp_function.resources.parquet import Footer, parse_footer


def footer(path: Path) -> bytes:
    """Return the footer of a Parquet file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[-8:-4])
    return data[-8 - length : -8]


@pytest.mark.parametrize("rows", [0, 1, 2049, 300_000])
def test_rows_are_counted_from_the_footer(tmp_path: Path, rows: int) -> None:
    """The count is right for nested columns and for several row groups."""
    path = tmp_path / "file.parquet"
    columns = "i, [i, i + 1] AS l, {'a': i, 'b': {'c': 'x' || i}} AS s, i % 2 = 0 AS t, [{'k': 'v'}] AS m"
    duckdb.sql(f"COPY (SELECT {columns} FROM range({rows}) r(i)) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 4096)")  # noqa: S608 - only names from this test
    assert parse_footer(footer(path)).rows == rows


def test_fingerprint_tells_columns_apart_and_not_rows(tmp_path: Path) -> None:
    """It depends on the names, the types and the order of the columns alone."""

    def fingerprint(columns: str, rows: int = 1) -> str:
        path = tmp_path / "file.parquet"
        duckdb.sql(f"COPY (SELECT {columns} FROM range({rows}) r(i)) TO '{path}' (FORMAT parquet)")  # noqa: S608 - only names from this test
        return parse_footer(footer(path)).schema

    first = fingerprint("i AS a, 'x' AS b")
    assert fingerprint("i + 1 AS a, 'yy' AS b", 3000) == first
    others = [fingerprint(one) for one in ("i AS a", "i AS a, 'x' AS c", "'x' AS b, i AS a", "i::INT AS a, 'x' AS b")]
    assert len({first, *others}) == 5


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_parsed_without_other_errors(data: bytes) -> None:
    """Any input returns a footer or raises ValueError or IndexError."""
    with contextlib.suppress(ValueError, IndexError):
        assert isinstance(parse_footer(data), Footer)


def test_list_longer_than_its_footer_is_refused() -> None:
    """A few bytes that announce billions of elements do not keep the function busy."""
    with pytest.raises(ValueError, match="longer than the footer"):
        parse_footer(bytes.fromhex("19f3ffffffff7f"))
