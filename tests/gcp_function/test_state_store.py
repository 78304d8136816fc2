"""What lies in Cloud Storage beyond the store's contract: odd states, pages, and rows counted by footers."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcp_function.clients import RATES, warm_clients
from gcp_function.errors import translate
from gcp_function.resources.copy_listing import CopyListing, day_globs
from gcp_function.resources.objects import Objects, Stored
from gcp_function.resources.parquet import rows_of_footer
from gcp_function.state_store import KEY
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.services.objects import glob_pattern
from localcloud.gcp.state import Behavior
from shared.errors import Permanent, Transient
from shared.runtime.context import RunContext
from tests.gcp_function.support import Lines, local_gcp, run, settings_of, verbs

STATE = "tailpipe-state-tailpipe-dataexport"
EXPORT = "tailpipe-billing-export-tailpipe-dataexport"


@pytest.fixture
def small() -> Iterator[LocalGcp]:
    """Return a project whose listings come in pages of three."""
    with local_gcp(accounts=1, done=1, behavior=Behavior(page_size=3)) as cloud:
        yield cloud


def objects(cloud: LocalGcp, bucket: str = EXPORT) -> Objects:
    """Return the reader and writer of one bucket."""
    chosen = settings_of(cloud)
    run = RunContext("gcp", chosen.engine, Lines(), cloud.clock, 600, RATES, translate, 1)
    return Objects(bucket, warm_clients(chosen), run)


def footer(path: Path) -> bytes:
    """Return a Parquet file's footer."""
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[-8:-4])
    return data[-8 - length : -8]


@pytest.mark.parametrize("rows", [0, 1, 2049, 300_000])
def test_rows_are_counted_by_the_footer(tmp_path: Path, rows: int) -> None:
    """The number in a footer is the file's, for nested columns and for several row groups."""
    path = tmp_path / "file.parquet"
    columns = "i, [i, i + 1] AS l, {'a': i, 'b': {'c': 'x' || i}} AS s, i % 2 = 0 AS t, [{'k': 'v'}] AS m"
    duckdb.sql(f"COPY (SELECT {columns} FROM range({rows}) r(i)) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 4096)")  # noqa: S608 - its own names
    assert rows_of_footer(footer(path)) == rows


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_a_footer_that_is_none_is_refused_and_never_runs_wild(data: bytes) -> None:
    """Whatever bytes come, a number is found or the file refused; nothing hangs and nothing else is raised."""
    with contextlib.suppress(ValueError, IndexError):
        assert isinstance(rows_of_footer(data), int)


def test_a_list_longer_than_its_footer_is_refused() -> None:
    """A few bytes that announce billions of elements do not keep the function busy."""
    with pytest.raises(ValueError, match="longer than the footer"):
        rows_of_footer(bytes.fromhex("19f3ffffffff7f"))


def test_a_footer_longer_than_the_first_read_is_read_whole(gcp: LocalGcp, tmp_path: Path) -> None:
    """A file with very many columns has a long footer: it is read in a second, longer read."""
    path = tmp_path / "wide.parquet"
    columns = ", ".join(f"{number} AS a_rather_long_name_for_column_{number}" for number in range(1500))
    duckdb.sql(f"COPY (SELECT {columns} FROM range(7)) TO '{path}' (FORMAT parquet)")  # noqa: S608 - its own names
    assert len(footer(path)) > 64 * 1024
    warm_clients(settings_of(gcp)).storage.bucket(EXPORT).blob("wide.parquet").upload_from_string(path.read_bytes())
    store = objects(gcp)
    (stored,) = store.below("wide")
    assert store.rows(stored) == 7


def test_a_file_that_is_no_parquet_is_refused(gcp: LocalGcp) -> None:
    """A cut or foreign file is never counted as empty."""
    gcp.put_object("odd.parquet", "PAR1 and nothing else")
    store = objects(gcp)
    (stored,) = store.below("odd")
    with pytest.raises(Permanent, match="not-parquet"):
        store.rows(stored)


def test_a_page_that_fails_is_never_the_last_one(small: LocalGcp) -> None:
    """A listing whose page fails for good is an error; one that fails in passing is read to its end."""
    run(small)
    names = small.copies()
    store = objects(small)
    small.fail("storage.objects.list", 503, "backendError")
    assert [one.name for one in store.below("")] == names
    small.fail("storage.objects.list", 503, "backendError", times=None)
    with pytest.raises(Transient):
        list(store.below(""))


def test_listings_in_small_pages_show_every_copy(small: LocalGcp) -> None:
    """However small the pages are, the next run finds every copy and makes none again."""
    run(small)
    small.clear_calls()
    assert set(verbs(run(small))) == {"KEEP", "SKIP"}
    assert small.calls.count("storage.objects.list") > 3


def test_years_of_older_copies_are_leapt_over(gcp: LocalGcp) -> None:
    """Copies before the window are not listed in every run: a page or two for each account at most."""
    run(gcp)
    before = gcp.clock.now().date()
    for account in gcp.accounts():
        for number in range(1500):
            gcp.put_object(f"{account}/2020-01-01/standard/old/{number:06d}", "x")
    gcp.clear_calls()
    assert set(verbs(run(gcp))) == {"KEEP", "SKIP"}
    assert gcp.calls.count("storage.objects.list") <= 2 * len(gcp.accounts())
    assert gcp.clock.now().date() == before


def test_corrupt_state_is_set_aside_and_rebuilt(covered: LocalGcp) -> None:
    """An unreadable blob is kept under another name, warned of, and everything is looked at again."""
    covered.put_object(KEY, "{broken", bucket=STATE)
    lines = Lines()
    finished = run(covered, sink=lines)
    assert finished.report["status"] == "ok"
    assert set(verbs(finished)) == {"KEEP", "SKIP"}
    assert any(event == "state-corrupt" for _, event, _ in lines.lines)
    kept = [name for name in covered.objects(STATE) if "corrupt" in name]
    assert [covered.read_object(name, STATE) for name in kept] == ["{broken"]


def test_empty_state_is_corrupt_and_not_missing(covered: LocalGcp) -> None:
    """A blob of no bytes is read as what it is."""
    covered.put_object(KEY, "", bucket=STATE)
    lines = Lines()
    assert run(covered, sink=lines).report["status"] == "ok"
    assert any(event == "state-corrupt" for _, event, _ in lines.lines)


def test_forbidden_state_stops_the_run(covered: LocalGcp) -> None:
    """State that may not be read is neither missing nor empty: the run ends with the right to grant."""
    covered.deny("storage.objects.get", f"buckets/{STATE}")
    finished = run(covered)
    assert finished.report["status"] == "failed"
    (failure,) = finished.report["failures"]
    assert failure["code"] == "state-forbidden"
    assert "storage.objects.get" in failure["remedy"]


def test_the_client_reads_no_bucket_behind_the_functions_back(gcp: LocalGcp) -> None:
    """Only the export bucket's own look is a read of a bucket: one a run, and none of the state's bucket."""
    run(gcp)
    run(gcp)
    read = [call.path.rpartition("/")[2] for call in gcp.calls.select("storage.buckets.get")]
    assert read == [EXPORT, EXPORT]


def test_a_missing_state_bucket_is_said_and_the_run_goes_on(gcp: LocalGcp) -> None:
    """Without its bucket the state cannot be kept: the copies are made all the same, and the remedy is told."""
    gcp.delete_bucket(STATE)
    finished = run(gcp)
    assert finished.report["status"] == "degraded"
    assert {one["code"] for one in finished.report["failures"]} == {"state-unsaved"}
    assert verbs(finished)["CREATE"] == 18


@given(st.dates(date(2023, 1, 1), date(2030, 12, 31)), st.integers(1, 365))
def test_the_globs_of_a_window_match_its_days_and_none_before(today: date, length: int) -> None:
    """Whole months and tens of days are named together, and no day is left out or in by mistake."""
    days = [(today - timedelta(days=age)).isoformat() for age in range(length - 1, -1, -1)]
    globs = day_globs(days)
    assert len(globs) <= 16 + length // 28
    pattern = glob_pattern(f"{{{','.join(globs)}}}")
    assert all(pattern.fullmatch(day) for day in days)
    before = [(today - timedelta(days=length + age)).isoformat() for age in range(60)]
    assert not any(pattern.fullmatch(day) for day in before)


class ShortPages(Objects):
    """A bucket whose listings come in short pages, every second one empty, as a filtered listing's may."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.asked: list[tuple[str, str]] = []
        self._run: Any = SimpleNamespace(calls=lambda _quota, call, *arguments: call(*arguments))

    def _page(self, token: str, prefix: str, glob: str) -> tuple[list[Stored], str]:
        self.asked.append((prefix, glob))
        number = int(token or 0)
        found = [Stored(self.names[number // 2], 1, 1)] if number % 2 else []
        return found, str(number + 1) if number + 1 < 2 * len(self.names) else ""


def test_a_short_or_empty_page_is_not_the_last_one() -> None:
    """Only a page without a token ends a listing."""
    names = [f"A/2026-11-0{day}/standard/manifest.json" for day in range(1, 6)]
    found = CopyListing(ShortPages(names)).of({"A"}, [f"2026-11-0{day}" for day in range(1, 6)])
    assert [day for _, day, _ in found] == [f"2026-11-0{day}" for day in range(1, 6)]


@pytest.mark.parametrize(
    ("accounts", "prefix", "first"),
    [({"A"}, "A/", "A/"), ({"A", "B"}, "", "{A,B}/"), ({*map(str, range(30))}, "", "*/")],
)
def test_few_accounts_are_named_and_many_are_not(accounts: set[str], prefix: str, first: str) -> None:
    """A run for one account lists its folder alone; a run for all of them names none."""
    bucket = ShortPages(["A/2026-11-01/standard/manifest.json"])
    CopyListing(bucket).of(accounts, ["2026-11-01"])
    assert bucket.asked[0] == (prefix, f"{first}{{2026-11-*}}/**")
