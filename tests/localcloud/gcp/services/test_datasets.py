"""BigQuery datasets and tables, through Google's client."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed
from google.cloud.bigquery import AccessEntry, Dataset, DatasetReference, SchemaField, Table, TimePartitioning

from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.billing_schema import SCHEMAS, table_name
from localcloud.gcp.services.exports import PRINCIPAL
from localcloud.gcp.state import Behavior
from tests.localcloud.gcp.conftest import NO_RETRY, Clients, Opener

Make = Callable[..., Clients]
HOUR = 3600


def _owners(dataset: Dataset) -> list[str]:
    return [entry.entity_id for entry in dataset.access_entries if entry.entity_type == "userByEmail"]


def _new(one: Clients, name: str, location: str) -> Dataset:
    dataset = Dataset(DatasetReference(one.cloud.project, name))
    dataset.location = location
    return one.bigquery.create_dataset(dataset, retry=NO_RETRY)


def test_dataset_is_created_in_the_requested_location(gcp: Clients) -> None:
    """A second create is a conflict that does not reveal the existing location."""
    assert _new(gcp, "made", "europe-west1").location == "europe-west1"
    with pytest.raises(Conflict, match="Already Exists"):
        _new(gcp, "made", "US")
    assert gcp.bigquery.get_dataset("made").location == "europe-west1"
    assert {item.dataset_id for item in gcp.bigquery.list_datasets()} == {"billing_export", "made"}


@pytest.mark.parametrize(("name", "location"), [("has-dashes", "US"), ("fine", "MARS")])
def test_invalid_dataset_name_or_location_is_400(gcp: Clients, name: str, location: str) -> None:
    """This covers names with dashes and unknown locations."""
    with pytest.raises(BadRequest):
        _new(gcp, name, location)


def test_access_entries_are_omitted_without_permission(gcp: Clients) -> None:
    """Without getIamPolicy the dataset has no entries, which proves nothing about the console step."""
    assert PRINCIPAL in _owners(gcp.bigquery.get_dataset("billing_export"))
    gcp.cloud.deny("bigquery.datasets.getIamPolicy")
    assert gcp.bigquery.get_dataset("billing_export").access_entries == []
    path = f"bigquery/v2/projects/{gcp.cloud.project}/datasets/billing_export"
    assert "access" not in gcp.get(path).json()
    assert gcp.get(path, datasetView="METADATA").status_code == 200
    assert gcp.get(path, datasetView="ACL").status_code == 403


def test_patch_with_a_stale_etag_is_412(operator: Clients) -> None:
    """The client sends the etag that it read."""
    mine = operator.bigquery.get_dataset("billing_export")
    theirs = operator.bigquery.get_dataset("billing_export")
    theirs.access_entries = [*theirs.access_entries, AccessEntry("READER", "userByEmail", "a@example.com")]
    operator.bigquery.update_dataset(theirs, ["access_entries"], retry=NO_RETRY)
    mine.description = "mine"
    with pytest.raises(PreconditionFailed):
        operator.bigquery.update_dataset(mine, ["description"], retry=NO_RETRY)
    assert "a@example.com" in _owners(operator.bigquery.get_dataset("billing_export"))


def test_console_step_adds_an_access_entry_before_the_tables(opened: Opener, clients: Make) -> None:
    """Enabling the export makes Google an owner immediately; the tables follow after the delay."""
    one = clients(opened(done=0, behavior=Behavior(table_delay_s=6 * HOUR)))
    account = next(iter(one.cloud.accounts()))
    before = one.bigquery.get_dataset("billing_export")
    one.cloud.console_step(account)
    after = one.bigquery.get_dataset("billing_export")
    assert (PRINCIPAL in _owners(before), PRINCIPAL in _owners(after)) == (False, True)
    assert before.etag != after.etag
    assert list(one.bigquery.list_tables("billing_export")) == []
    one.cloud.advance(seconds=6 * HOUR)
    tables = {table.table_id for table in one.bigquery.list_tables("billing_export")}
    assert tables == {table_name(kind, account) for kind in ("standard", "detailed", "pricing")}


def test_focus_export_is_a_linked_dataset(opened: Opener, clients: Make) -> None:
    """Its name contains account and location."""
    one = clients(opened(done=0), OPERATOR)  # the function has no permission to read the rows
    account = next(iter(one.cloud.accounts()))
    one.cloud.console_step(account, ["focus"])
    one.cloud.stream(rows=3)
    name = f"gcp_billing_immutable_{account.replace('-', '_')}_us"
    assert one.get(f"bigquery/v2/projects/{one.cloud.project}/datasets/{name}").json()["type"] == "LINKED"
    (table,) = one.bigquery.list_tables(name)
    found = one.bigquery.query_and_wait(f"SELECT COUNT(*) AS n FROM `{table.full_table_id.replace(':', '.')}`")
    assert (table.table_id, next(iter(found)).n) == (table_name("focus", account), 3)


def test_tables_have_googles_published_schema(gcp: Clients) -> None:
    """Nested and repeated columns, day partitions and row counts are returned as by BigQuery."""
    account = next(iter(gcp.cloud.accounts()))
    table = gcp.bigquery.get_table(f"billing_export.{table_name('detailed', account)}")
    fields = {field.name: field for field in table.schema}
    assert list(fields) == [field["name"] for field in SCHEMAS["detailed"]]
    assert (fields["credits"].mode, fields["credits"].field_type) == ("REPEATED", "RECORD")
    assert [field.name for field in fields["resource"].fields] == ["name", "global_name"]
    assert (table.num_rows, table.time_partitioning.type_, table.location) == (30, "DAY", "US")
    one_day = gcp.bigquery.get_table(f"billing_export.{table_name('detailed', account)}$20260309")
    assert one_day.num_rows == 10


def test_tables_are_listed_in_pages(opened: Opener, clients: Make) -> None:
    """The default page size is 50, and the pages together have every table once."""
    one = clients(opened(accounts=60, done=60, kinds=("standard", "detailed")))
    first = one.get(f"bigquery/v2/projects/{one.cloud.project}/datasets/billing_export/tables").json()
    names = [table.table_id for table in one.bigquery.list_tables("billing_export", page_size=1000)]
    assert (len(first["tables"]), first["totalItems"]) == (50, 120)
    assert len(set(names)) == len(names) == 120
    assert one.cloud.calls.count("bigquery.tables.list") == 2


def test_table_can_be_created_and_deleted(operator: Clients) -> None:
    """A table keeps its columns, a second one of its name is a conflict, and a deleted one is 404."""
    name = f"{operator.cloud.project}.billing_export.own"
    table = Table(name, schema=[SchemaField("a", "INTEGER"), SchemaField("b", "STRING", mode="REPEATED")])
    table.time_partitioning = TimePartitioning(type_="DAY")
    operator.bigquery.create_table(table, retry=NO_RETRY)
    with pytest.raises(Conflict):
        operator.bigquery.create_table(table, retry=NO_RETRY)
    assert [field.name for field in operator.bigquery.get_table(name).schema] == ["a", "b"]
    operator.bigquery.delete_table(name, retry=NO_RETRY)
    with pytest.raises(NotFound):
        operator.bigquery.get_table(name, retry=NO_RETRY)


def test_function_may_not_change_datasets_or_tables(gcp: Clients) -> None:
    """The function's identity can neither change or delete a dataset nor create or delete tables."""
    with pytest.raises(Forbidden, match=r"bigquery\.datasets\.delete"):
        gcp.bigquery.delete_dataset("billing_export", retry=NO_RETRY)
    dataset = gcp.bigquery.get_dataset("billing_export")
    dataset.description = "x"
    with pytest.raises(Forbidden, match=r"bigquery\.datasets\.update"):
        gcp.bigquery.update_dataset(dataset, ["description"], retry=NO_RETRY)
    with pytest.raises(Forbidden, match=r"bigquery\.tables\.create"):
        gcp.bigquery.create_table(Table(f"{gcp.cloud.project}.billing_export.x", schema=[]), retry=NO_RETRY)
