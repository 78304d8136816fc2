"""The dataset: created if missing, used where it exists, with its access entries unchanged."""

from __future__ import annotations

from localcloud.gcp.cloud import LocalGcp
from shared.model import Result, Verb
from tests.gcp_function.support import accounts, action, export_bucket, local_gcp, messages, outcome, run


def test_dataset_and_bucket_are_created_in_the_configured_location() -> None:
    """The new bucket is private, with uniform access and lifecycle rules for cheaper storage classes."""
    with local_gcp(bare=True) as cloud:
        run(cloud, DATASET_LOCATION="EU", ORGANIZATION="organizations/123456789012")
        dataset = cloud.world.catalog.datasets["tailpipe-dataexport", "billing_export"]
        made = export_bucket(cloud)
        assert dataset.location == "EU"
        assert made["location"] == "EU"
        assert made["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
        assert made["iamConfiguration"]["publicAccessPrevention"] == "enforced"
        assert {rule["action"]["type"] for rule in made["lifecycle"]["rule"]} == {"SetStorageClass"}


def test_dataset_in_another_location_is_used_and_reported() -> None:
    """The bucket is created in the dataset's location; the step says that older data is not backfilled there."""
    with local_gcp(location="europe-west1") as cloud:
        cloud.delete_bucket()
        finished = run(cloud, DATASET_LOCATION="US")
        assert export_bucket(cloud)["location"] == "EUROPE-WEST1"
        assert action(finished, "location").verb is Verb.MANUAL
        assert "set DATASET_LOCATION to europe-west1" in messages(finished)
        assert "no data from before the export" in messages(finished)
        assert outcome(finished, "copy", accounts(cloud)[0], "standard/2026-11-22").result is Result.DONE
        assert action(run(cloud, DATASET_LOCATION="europe-west1"), "location").verb is Verb.KEEP


def test_deleted_dataset_is_recreated_and_the_console_step_is_reported() -> None:
    """Google's access entry and the tables are lost with the dataset, so a person must enable the exports again."""
    with local_gcp(accounts=1, done=1) as cloud:
        run(cloud)
        copies = cloud.copies()
        cloud.delete_dataset()
        finished = run(cloud)
        assert outcome(finished, "dataset").result is Result.DONE
        assert action(finished, "export", name="standard").reason == "dataset-missing"
        after = run(cloud)
        assert action(after, "dataset").verb is Verb.KEEP
        assert action(after, "export", name="standard").verb is Verb.MANUAL
        assert set(copies) <= set(cloud.copies())


def test_run_never_writes_access_entries(covered: LocalGcp) -> None:
    """Google's own entry therefore stays in place."""
    run(covered)
    assert covered.calls.count("bigquery.datasets.patch") == covered.calls.count("bigquery.datasets.update") == 0
