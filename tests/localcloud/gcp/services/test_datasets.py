"""BigQuery's datasets and tables through Google's client."""

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


def test_a_dataset_is_made_where_asked(gcp: Clients) -> None:
    """The location is kept; making it again is a conflict that says nothing of another location."""
    assert _new(gcp, "made", "europe-west1").location == "europe-west1"
    with pytest.raises(Conflict, match="Already Exists"):
        _new(gcp, "made", "US")
    assert gcp.bigquery.get_dataset("made").location == "europe-west1"
    assert {item.dataset_id for item in gcp.bigquery.list_datasets()} == {"billing_export", "made"}


@pytest.mark.parametrize(("name", "location"), [("has-dashes", "US"), ("fine", "MARS")])
def test_dataset_names_and_locations_are_checked(gcp: Clients, name: str, location: str) -> None:
    """Dashes in a name and unknown locations are refused with 400."""
    with pytest.raises(BadRequest):
        _new(gcp, name, location)


def test_access_entries_are_hidden_without_the_right_to_read_them(gcp: Clients) -> None:
    """Without getIamPolicy the dataset is answered without entries: that proves nothing about the console step."""
    assert PRINCIPAL in _owners(gcp.bigquery.get_dataset("billing_export"))
    gcp.cloud.deny("bigquery.datasets.getIamPolicy")
    assert gcp.bigquery.get_dataset("billing_export").access_entries == []
    path = f"bigquery/v2/projects/{gcp.cloud.project}/datasets/billing_export"
    assert "access" not in gcp.get(path).json()
    assert gcp.get(path, datasetView="METADATA").status_code == 200
    assert gcp.get(path, datasetView="ACL").status_code == 403


def test_a_patch_is_refused_after_another_change_of_the_dataset(operator: Clients) -> None:
    """The client sends the etag it read; after another change the answer is 412."""
    mine = operator.bigquery.get_dataset("billing_export")
    theirs = operator.bigquery.get_dataset("billing_export")
    theirs.access_entries = [*theirs.access_entries, AccessEntry("READER", "userByEmail", "a@example.com")]
    operator.bigquery.update_dataset(theirs, ["access_entries"], retry=NO_RETRY)
    mine.description = "mine"
    with pytest.raises(PreconditionFailed):
        operator.bigquery.update_dataset(mine, ["description"], retry=NO_RETRY)
    assert "a@example.com" in _owners(operator.bigquery.get_dataset("billing_export"))


def test_the_console_step_shows_in_the_entries_before_there_is_a_table(opened: Opener, clients: Make) -> None:
    """Enabling the export makes Google an owner at once; the tables come after the delay."""
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


def test_the_focus_export_is_a_linked_dataset(opened: Opener, clients: Make) -> None:
    """The FOCUS export comes as a dataset of its own, named for account and location."""
    one = clients(opened(done=0), OPERATOR)  # the function itself has no right to the rows
    account = next(iter(one.cloud.accounts()))
    one.cloud.console_step(account, ["focus"])
    one.cloud.stream(rows=3)
    name = f"gcp_billing_immutable_{account.replace('-', '_')}_us"
    assert one.get(f"bigquery/v2/projects/{one.cloud.project}/datasets/{name}").json()["type"] == "LINKED"
    (table,) = one.bigquery.list_tables(name)
    found = one.bigquery.query_and_wait(f"SELECT COUNT(*) AS n FROM `{table.full_table_id.replace(':', '.')}`")
    assert (table.table_id, next(iter(found)).n) == (table_name("focus", account), 3)


def test_tables_have_googles_published_schema(gcp: Clients) -> None:
    """Nested and repeated columns, day partitions and row counts are reported as BigQuery does."""
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
    """The server's page size holds, the default is 50, and all pages together hold every table once."""
    one = clients(opened(accounts=60, done=60, kinds=("standard", "detailed")))
    first = one.get(f"bigquery/v2/projects/{one.cloud.project}/datasets/billing_export/tables").json()
    names = [table.table_id for table in one.bigquery.list_tables("billing_export", page_size=1000)]
    assert (len(first["tables"]), first["totalItems"]) == (50, 120)
    assert len(set(names)) == len(names) == 120
    assert one.cloud.calls.count("bigquery.tables.list") == 2


def test_a_table_can_be_made_and_deleted(operator: Clients) -> None:
    """A client's own table keeps its columns; a second of its name is a conflict; deleted, it is not found."""
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


def test_what_the_function_must_not_do_is_refused(gcp: Clients) -> None:
    """The function's identity can neither change nor delete a dataset, nor make or delete tables."""
    with pytest.raises(Forbidden, match=r"bigquery\.datasets\.delete"):
        gcp.bigquery.delete_dataset("billing_export", retry=NO_RETRY)
    dataset = gcp.bigquery.get_dataset("billing_export")
    dataset.description = "x"
    with pytest.raises(Forbidden, match=r"bigquery\.datasets\.update"):
        gcp.bigquery.update_dataset(dataset, ["description"], retry=NO_RETRY)
    with pytest.raises(Forbidden, match=r"bigquery\.tables\.create"):
        gcp.bigquery.create_table(Table(f"{gcp.cloud.project}.billing_export.x", schema=[]), retry=NO_RETRY)
