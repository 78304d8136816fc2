"""Objects in the export bucket: complete listings, and the number of rows of each Parquet file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from gcp_function.clients import RATES, warm_clients
from gcp_function.errors import translate
from gcp_function.resources.objects import AT_ONCE, Objects
from localcloud.gcp.cloud import LocalGcp
from shared.errors import Permanent, Transient
from shared.runtime.context import RunContext
from tests.gcp_function.resources.test_parquet import footer
from tests.gcp_function.support import Lines, run, settings_of

EXPORT = "tailpipe-billing-export-tailpipe-dataexport"


def objects(cloud: LocalGcp, bucket: str = EXPORT) -> Objects:
    """Return the reader and writer of one bucket."""
    chosen = settings_of(cloud)
    run = RunContext("gcp", chosen.engine, Lines(), cloud.clock, 600, RATES, translate, 1)
    return Objects(bucket, warm_clients(chosen), run)


def test_footer_longer_than_the_first_read_is_read_completely(gcp: LocalGcp, tmp_path: Path) -> None:
    """A file with very many columns needs a second, longer read."""
    path = tmp_path / "wide.parquet"
    columns = ", ".join(f"{number} AS a_rather_long_name_for_column_{number}" for number in range(1500))
    duckdb.sql(f"COPY (SELECT {columns} FROM range(7)) TO '{path}' (FORMAT parquet)")  # noqa: S608 - only names from this test
    assert len(footer(path)) > 64 * 1024
    warm_clients(settings_of(gcp)).storage.bucket(EXPORT).blob("wide.parquet").upload_from_string(path.read_bytes())
    store = objects(gcp)
    (stored,) = store.below("wide")
    assert store.footer(stored).rows == 7


def test_file_that_is_not_parquet_is_refused(gcp: LocalGcp) -> None:
    """A truncated or foreign file never counts as empty."""
    gcp.put_object("invalid.parquet", "PAR1 and nothing else")
    store = objects(gcp)
    (stored,) = store.below("invalid")
    with pytest.raises(Permanent, match="not-parquet"):
        store.footer(stored)


def test_failed_page_does_not_end_the_listing(small_pages: LocalGcp) -> None:
    """A permanently failing page raises; a transient failure is retried and the listing is complete."""
    run(small_pages)
    names = small_pages.copies()
    store = objects(small_pages)
    small_pages.fail("storage.objects.list", 503, "backendError")
    assert [one.name for one in store.below("")] == names
    small_pages.fail("storage.objects.list", 503, "backendError", times=None)
    with pytest.raises(Transient):
        list(store.below(""))


@pytest.mark.parametrize("generation", [None, 0])
def test_large_object_is_written_in_one_call(gcp: LocalGcp, generation: int | None) -> None:
    """The state and the report of hundreds of accounts are larger than what the SDK uploads in one request."""
    gcp.clear_calls()
    written = objects(gcp).write("large.json", bytes(AT_ONCE + 1), generation)
    assert gcp.calls.by_method() == {"storage.objects.insert": 1}
    assert objects(gcp).size("large.json") == (AT_ONCE + 1, written)
