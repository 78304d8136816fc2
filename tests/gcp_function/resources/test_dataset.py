"""Dataset and bucket: created where they are wanted, respected where they are, never taken from somebody else."""

from __future__ import annotations

from localcloud.gcp.cloud import LocalGcp
from shared.model import Result, Verb
from tests.gcp_function.support import accounts, action, export_bucket, local_gcp, messages, outcome, run


def test_what_is_missing_is_created_in_the_wanted_place() -> None:
    """An empty project gets dataset and bucket in DATASET_LOCATION, private, with uniform access and colder tiers."""
    with local_gcp(bare=True) as cloud:
        run(cloud, DATASET_LOCATION="EU", ORGANIZATION="organizations/123456789012")
        dataset = cloud.world.catalog.datasets["tailpipe-dataexport", "billing_export"]
        made = export_bucket(cloud)
        assert dataset.location == "EU"
        assert made["location"] == "EU"
        assert made["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
        assert made["iamConfiguration"]["publicAccessPrevention"] == "enforced"
        assert {rule["action"]["type"] for rule in made["lifecycle"]["rule"]} == {"SetStorageClass"}


def test_a_dataset_elsewhere_is_respected_and_reported() -> None:
    """A dataset in a region is used as it is, with the bucket beside it; a person is told that it has no back data."""
    with local_gcp(location="europe-west1") as cloud:
        cloud.delete_bucket()
        finished = run(cloud, DATASET_LOCATION="US")
        assert export_bucket(cloud)["location"] == "EUROPE-WEST1"
        assert action(finished, "location").verb is Verb.MANUAL
        assert "set DATASET_LOCATION to europe-west1" in messages(finished)
        assert "no data from before the export" in messages(finished)
        assert outcome(finished, "copy", accounts(cloud)[0], "standard/2026-11-22").result is Result.DONE
        assert action(run(cloud, DATASET_LOCATION="europe-west1"), "location").verb is Verb.KEEP


def test_a_deleted_dataset_is_made_again_and_the_step_is_asked_for_again() -> None:
    """With the dataset Google's entry and all tables are gone: the dataset comes back, the rest is a person's step."""
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


def test_googles_access_entry_is_never_touched(covered: LocalGcp) -> None:
    """No run ever writes the dataset's access entries, so Google's own is never lost."""
    run(covered)
    assert covered.calls.count("bigquery.datasets.patch") == covered.calls.count("bigquery.datasets.update") == 0
