"""The blobs that exports deliver, read with azure-storage-blob."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import CONTAINER, STATE_CONTAINER
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock
from tests.localcloud.azure.helpers import NAME, Sdk, export, refusal, scope


def test_delivery_has_the_documented_layout(azure: LocalAzure, sdk: Sdk) -> None:
    """A run writes container/folder/name/month/run with a gzip CSV file and a manifest that lists it."""
    sdk.create()
    assert azure.deliver() == 1
    run = sdk.exports.get(scope(azure), NAME, expand="runHistory").properties.run_history.value[0]
    folder = f"tailpipe{scope(azure)}/{NAME}/20260101-20260131/{run.name}"
    container = sdk.blobs.get_container_client(CONTAINER)
    assert sdk.names() == [f"{folder}/manifest.json", f"{folder}/part_0_0001.csv.gz"]
    manifest = json.loads(container.download_blob(f"{folder}/manifest.json").readall())
    data = container.download_blob(f"{folder}/part_0_0001.csv.gz").readall()
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(data).decode("utf-8-sig"))))
    assert manifest["blobs"] == [
        {"blobName": f"{folder}/part_0_0001.csv.gz", "byteCount": len(data), "dataRowCount": len(rows)}
    ]
    assert manifest["runInfo"]["runId"] == run.name
    assert manifest["exportConfig"]["exportName"] == NAME
    assert {row["SubscriptionId"] for row in rows} == {azure.subscription_ids[0]}
    assert run.properties.manifest_file == f"{folder}/manifest.json"


def test_overwriting_export_keeps_one_run_per_month(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """OverwritePreviousReport replaces the month's last run, and an older month stays."""
    sdk.create()
    azure.deliver()
    first = sdk.names()
    clock.advance(86400)
    azure.deliver()
    second = sdk.names()
    clock.advance(31 * 86400)
    azure.deliver()
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)
    assert set(second) < set(sdk.names())
    assert len(sdk.names()) == 4


def test_create_new_report_keeps_every_run(azure: LocalAzure, sdk: Sdk) -> None:
    """CreateNewReport adds each run beside the others."""
    sdk.create(dataOverwriteBehavior="CreateNewReport")
    azure.deliver()
    azure.deliver()
    assert len(sdk.names()) == 4


def test_last_modified_is_the_virtual_clocks_time(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """Evidence can therefore be fresh or stale."""
    sdk.create()
    clock.advance(5 * 86400 + 3600)
    azure.deliver()
    blob = next(iter(sdk.blobs.get_container_client(CONTAINER).list_blobs()))
    assert blob.last_modified == datetime(2026, 1, 10, 1, tzinfo=UTC)


def test_parquet_file_has_the_format_of_parquet(azure: LocalAzure, sdk: Sdk) -> None:
    """It has the magic bytes at both ends, and a valid footer length."""
    sdk.create(format="Parquet", compressionMode="snappy")
    azure.deliver()
    name = next(one for one in sdk.names() if one.endswith("part_0_0001.snappy.parquet"))
    data = sdk.blobs.get_blob_client(CONTAINER, name).download_blob().readall()
    assert (data[:4], data[-4:]) == (b"PAR1", b"PAR1")
    assert int.from_bytes(data[-8:-4], "little") == len(data) - 12


def test_inactive_export_delivers_nothing(azure: LocalAzure, sdk: Sdk) -> None:
    """Other exports deliver."""
    sdk.create(0)
    sdk.create(1)
    azure.set_schedule_inactive(azure.subscription_ids[0])
    assert azure.deliver() == 1
    assert sdk.exports.get(scope(azure), NAME).properties.schedule.status == "Inactive"
    assert all(azure.subscription_ids[1] in name for name in sdk.names())


def test_execution_delivers_its_month_after_a_delay(clock: VirtualClock, closing: ExitStack) -> None:
    """It is InProgress without data first, then Completed with the month's folder."""
    cloud = closing.enter_context(LocalAzure(clock=clock, behavior=Behavior(run_delay_s=600)))
    sdk = Sdk(cloud, closing)
    sdk.create()
    december = {"timePeriod": {"from": "2025-12-01T00:00:00Z", "to": "2025-12-31T00:00:00Z"}}
    sdk.exports.execute(scope(cloud), NAME, december)
    history = sdk.exports.get_execution_history(scope(cloud), NAME).value
    assert [one.properties.status for one in history] == ["InProgress"]
    assert [one.properties.execution_type for one in history] == ["OnDemand"]
    assert sdk.names() == []
    clock.advance(600)
    history = sdk.exports.get_execution_history(scope(cloud), NAME).value
    assert [one.properties.status for one in history] == ["Completed"]
    assert all("/20251201-20251231/" in name for name in sdk.names())


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        pytest.param("2025-11-15T00:00:00Z", "2025-12-14T00:00:00Z", "one calendar month", id="across months"),
        pytest.param("2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z", "cannot be in the future", id="future"),
        pytest.param("2025-12-20T00:00:00Z", "2025-12-10T00:00:00Z", "must not be before", id="backwards"),
        pytest.param("2010-01-01T00:00:00Z", "2010-01-31T00:00:00Z", "too far in the past", id="too old"),
        pytest.param("2025-12-01T00:00:00Z", None, "timePeriod.to' is missing", id="no end"),
    ],
)
def test_invalid_period_is_refused(azure: LocalAzure, sdk: Sdk, start: str, end: str | None, words: str) -> None:
    """An execution covers at most one calendar month, in the past and within the limit."""
    sdk.create()
    period = {"from": start, **({"to": end} if end else {})}
    status, _, message = refusal(sdk.exports.execute, scope(azure), NAME, {"timePeriod": period})
    assert (status, words in message) == (400, True), message
    assert sdk.exports.get_execution_history(scope(azure), NAME).value == []


def test_failed_run_has_an_error_in_the_history(azure: LocalAzure, sdk: Sdk) -> None:
    """It leaves no data, and the next run delivers."""
    sdk.create()
    azure.fail_runs(azure.subscription_ids[0], times=2, code="QueryTimedOut")
    assert [azure.deliver() for _ in range(3)] == [0, 0, 1]
    history = sdk.exports.get(scope(azure), NAME, expand="runHistory").properties.run_history.value
    assert [one.properties.status for one in history] == ["Completed", "Failed", "Failed"]
    assert history[1].properties.error.code == "QueryTimedOut"
    assert len(sdk.names()) == 2


def test_missing_container_is_created_by_the_service(azure: LocalAzure, sdk: Sdk) -> None:
    """The run after its deletion creates it."""
    sdk.create()
    azure.delete_container()
    assert azure.deliver() == 1
    assert len(sdk.names()) == 2


def test_disabled_keys_or_a_firewall_stop_exports_without_an_identity(azure: LocalAzure, sdk: Sdk) -> None:
    """Each is refused at creation with its message, and fails the runs of existing exports."""
    sdk.create()
    azure.set_shared_key(False)
    assert "Key-based authentication is currently disabled" in refusal(sdk.create, 1)[2]
    assert azure.deliver() == 0
    azure.set_shared_key(True)
    azure.set_firewall(True)
    assert "not authorized to access the specified storage account" in refusal(sdk.create, 1)[2]
    assert azure.deliver() == 0
    azure.set_firewall(False)
    assert azure.deliver() == 1


def test_identity_export_needs_permission_to_assign_roles(
    clock: VirtualClock, closing: ExitStack, azure: LocalAzure
) -> None:
    """Keys may be disabled, but the export needs a location."""
    plain = Sdk(azure, closing)
    status, _, message = refusal(plain.exports.create_or_update, scope(azure), NAME, export(azure, identity=True))
    assert (status, "roleAssignments/write' action on specified storage account" in message) == (400, True)
    cloud = closing.enter_context(LocalAzure(clock=clock, identity_exports=True))
    sdk = Sdk(cloud, closing)
    homeless = export(cloud, identity=True)
    del homeless["location"]
    assert "'location' is required" in refusal(sdk.exports.create_or_update, scope(cloud), NAME, homeless)[2]
    sdk.exports.create_or_update(scope(cloud), NAME, export(cloud, identity=True))
    assert cloud.deliver() == 1


def test_exports_of_the_old_scripts_exist_and_deliver(clock: VirtualClock, closing: ExitStack) -> None:
    """They have the public names and folders, and the type of their offer."""
    cloud = closing.enter_context(LocalAzure(clock=clock, agreements={"ea": 1, "webdirect": 1}))
    sdk = Sdk(cloud, closing)
    assert cloud.create_exports() == 3
    first, second = cloud.subscription_ids[:2]
    found = sdk.exports.get(scope(cloud), f"TailpipeDataExport-{first[-6:]}")
    assert found.properties.definition.type == "ActualCost"
    assert found.properties.delivery_info.destination.root_folder_path == f"tailpipe/subscriptions/{first}"
    other = sdk.exports.get(scope(cloud, 1), f"TailpipeDataExport-{second[-6:]}")
    assert other.properties.definition.type == "Usage"
    assert cloud.deliver() == 3


def test_external_change_is_visible_with_a_new_etag(azure: LocalAzure, sdk: Sdk) -> None:
    """The next read returns it."""
    before = sdk.create()
    azure.change_destination(azure.subscription_ids[0], folder="elsewhere")
    azure.change_type(azure.subscription_ids[0], "Usage")
    azure.set_end_date(azure.subscription_ids[0], days=10)
    after = sdk.exports.get(scope(azure), NAME)
    assert after.e_tag != before.e_tag
    assert after.properties.delivery_info.destination.root_folder_path == "elsewhere"
    assert after.properties.definition.type == "Usage"
    assert after.properties.schedule.recurrence_period.to == datetime(2026, 1, 15, tzinfo=UTC)


def test_lease_expires_by_the_virtual_clock(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """This covers a lease on a blob of the host storage."""
    client = azure.blob_client(azure.host_account.name)
    with client:
        blob = client.get_blob_client(STATE_CONTAINER, "state.json")
        blob.upload_blob(b"{}")
        blob.acquire_lease(lease_duration=60)
        assert refusal_status(lambda: blob.upload_blob(b"[]", overwrite=True)) == 412
        clock.advance(timedelta(seconds=61).total_seconds())
        azure.sync()
        blob.upload_blob(b"[]", overwrite=True)


def refusal_status(call: Callable[[], object]) -> int:
    """Return the status of a refused storage call."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    return caught.value.status_code or 0
