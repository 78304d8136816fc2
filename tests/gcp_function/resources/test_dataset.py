"""Dataset and bucket: created where they are wanted, respected where they are, never taken from somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from gcp_function.resources.bucket import reaches
from localcloud.gcp.cloud import LocalGcp
from shared.model import Result, Verb
from tests.gcp_function.support import accounts, action, local_gcp, messages, outcome, run

BUCKET = "tailpipe-billing-export-tailpipe-dataexport"


def bucket(cloud: LocalGcp) -> dict[str, Any]:
    """Return the export bucket as Cloud Storage shows it."""
    return dict(cloud.world.buckets.find(BUCKET).document)


def test_what_is_missing_is_created_in_the_wanted_place() -> None:
    """An empty project gets dataset and bucket in DATASET_LOCATION, private, with uniform access and colder tiers."""
    with local_gcp(bare=True) as cloud:
        run(cloud, DATASET_LOCATION="EU", ORGANIZATION="organizations/123456789012")
        dataset = cloud.world.catalog.datasets["tailpipe-dataexport", "billing_export"]
        made = bucket(cloud)
        assert dataset.location == "EU"
        assert made["location"] == "EU"
        assert made["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
        assert made["iamConfiguration"]["publicAccessPrevention"] == "enforced"
        assert {rule["action"]["type"] for rule in made["lifecycle"]["rule"]} == {"SetStorageClass"}


def test_a_deleted_bucket_comes_back_with_all_copies(covered: LocalGcp) -> None:
    """A bucket that somebody deleted is made again, and so is every copy, once that is confirmed by force."""
    before = {name for name in covered.copies() if name.endswith("manifest.json")}
    covered.delete_bucket()
    (refused,) = run(covered).report["failures"]
    assert refused["code"] == "vanished"
    assert f"bucket/{BUCKET}, which is gone, too" in refused["remedy"]
    assert "credentials" not in refused["remedy"]
    assert run(covered, force=True).report["status"] == "ok"
    assert {name for name in covered.copies() if name.endswith("manifest.json")} == before


def test_drift_is_repaired_field_by_field_and_foreign_rules_stay(covered: LocalGcp) -> None:
    """Uniform access comes back, and nothing is taken away: neither public access prevention nor foreign rules."""
    document = covered.world.buckets.find(BUCKET).document
    foreign = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}
    document["iamConfiguration"] = {
        "uniformBucketLevelAccess": {"enabled": False},
        "publicAccessPrevention": "enforced",
    }
    document["lifecycle"] = {"rule": [foreign]}
    finished = run(covered)
    assert action(finished, "bucket").changes == ("lifecycle", "uniform-access")
    healed = bucket(covered)
    assert healed["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert healed["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert foreign in healed["lifecycle"]["rule"]
    assert len(healed["lifecycle"]["rule"]) == 3
    assert action(run(covered), "bucket").verb is Verb.KEEP


def test_a_bucket_that_could_be_made_public_is_a_persons_business(covered: LocalGcp) -> None:
    """Lifted public access prevention is told with the one command that sets it; nothing is tried, nothing blocked."""
    document = covered.world.buckets.find(BUCKET).document
    document["iamConfiguration"]["publicAccessPrevention"] = "inherited"
    covered.late_data(accounts(covered)[0], "2026-11-22")
    finished = run(covered)
    assert action(finished, "privacy").verb is Verb.MANUAL
    assert f"gcloud storage buckets update gs://{BUCKET} --public-access-prevention" in messages(finished)
    assert (finished.report["status"], action(finished, "bucket").verb) == ("ok", Verb.KEEP)
    assert outcome(finished, "copy", accounts(covered)[0], "standard/2026-11-22").result is Result.DONE
    assert covered.calls.count("storage.buckets.patch") == 0
    document["iamConfiguration"]["publicAccessPrevention"] = "enforced"
    assert action(run(covered), "privacy").verb is Verb.KEEP


def test_soft_delete_of_copies_is_told_and_no_account_suffers(covered: LocalGcp) -> None:
    """A bucket that keeps deleted copies costs money only: the command is told, and every account stays covered."""
    document = covered.world.buckets.find(BUCKET).document
    document["softDeletePolicy"] = {"retentionDurationSeconds": "604800"}
    finished = run(covered)
    assert action(finished, "soft-delete").reason == "soft-delete"
    assert f"gcloud storage buckets update gs://{BUCKET} --clear-soft-delete" in messages(finished)
    assert finished.report["scopes"]["covered"] == 3
    covered.delete_bucket()
    run(covered, force=True)
    assert bucket(covered)["softDeletePolicy"]["retentionDurationSeconds"] in (0, "0")


def test_tiers_that_somebody_chose_are_left_alone(covered: LocalGcp) -> None:
    """Other colder tiers than ours are no drift: the function would only fight the deployment."""
    covered.world.buckets.find(BUCKET).document["lifecycle"] = {
        "rule": [{"action": {"type": "SetStorageClass", "storageClass": "ARCHIVE"}, "condition": {"age": 9}}]
    }
    assert action(run(covered), "bucket").verb is Verb.KEEP


def test_a_rule_that_deletes_copies_is_reported_and_not_fought(covered: LocalGcp) -> None:
    """A rule that deletes copies after 90 days, as the old script set it, is shown to a person; nothing is blocked."""
    document = covered.world.buckets.find(BUCKET).document
    rule = {"action": {"type": "Delete"}, "condition": {"age": 90}}
    document["lifecycle"] = {"rule": [*document["lifecycle"]["rule"], rule]}
    finished = run(covered)
    assert action(finished, "retention").verb is Verb.MANUAL
    assert "90 days" in messages(finished)
    assert finished.report["status"] == "ok"
    assert action(finished, "bucket").verb is Verb.KEEP


def test_a_dataset_elsewhere_is_respected_and_reported() -> None:
    """A dataset in a region is used as it is, with the bucket beside it; a person is told that it has no back data."""
    with local_gcp(location="europe-west1") as cloud:
        cloud.delete_bucket()
        finished = run(cloud, DATASET_LOCATION="US")
        assert bucket(cloud)["location"] == "EUROPE-WEST1"
        assert action(finished, "location").verb is Verb.MANUAL
        assert "set DATASET_LOCATION to europe-west1" in messages(finished)
        assert "no data from before the export" in messages(finished)
        assert outcome(finished, "copy", accounts(cloud)[0], "standard/2026-11-22").result is Result.DONE
        assert action(run(cloud, DATASET_LOCATION="europe-west1"), "location").verb is Verb.KEEP


def test_a_bucket_in_another_location_than_the_dataset_is_a_persons_business() -> None:
    """No extract job is even tried where BigQuery cannot write: the step is to choose another bucket."""
    with local_gcp(location="EU") as cloud:
        cloud.world.buckets.find(BUCKET).document["location"] = "US"
        finished = run(cloud)
        assert action(finished, "bucket").verb is Verb.MANUAL
        assert "Set EXPORT_BUCKET to an unused name" in messages(finished)
        assert action(finished, "copy", accounts(cloud)[0], "standard/2026-11-22").verb is Verb.BLOCK
        assert cloud.calls.count("bigquery.jobs.insert") == 0


def test_a_bucket_name_that_somebody_else_took_is_left_alone(gcp: LocalGcp) -> None:
    """A bucket of our name in another project is neither read into nor changed; the step is another name."""
    document = gcp.world.buckets.find(BUCKET).document
    document["projectNumber"] = "4711"
    finished = run(gcp)
    assert action(finished, "bucket").reason == "foreign"
    assert "taken by another project" in messages(finished)
    assert gcp.calls.count("storage.buckets.patch") == 0


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


@pytest.mark.parametrize(
    ("dataset", "place", "reached"),
    [
        ("US", "US", True),
        ("US", "EUROPE-WEST1", True),
        ("EU", "EU", True),
        ("EU", "europe-west4", True),
        ("EU", "US", False),
        ("europe-west1", "EUROPE-WEST1", True),
        ("europe-west1", "EU", False),
    ],
)
def test_where_a_dataset_can_be_extracted_to(dataset: str, place: str, reached: bool) -> None:
    """The documented rules of location decide, before any job is tried."""
    assert reaches(dataset, place) is reached


def test_a_listing_that_contradicts_the_bucket_makes_no_copy_absent(covered: LocalGcp) -> None:
    """Where the bucket is there and its objects are "not found", nothing is called vanished, and no job is begun."""
    covered.fail("storage.objects.list", 404, "notFound", times=None)
    finished = run(covered)
    copy = action(finished, "copy", accounts(covered)[0], "standard/2026-11-22")
    assert (copy.verb, copy.reason) == (Verb.DEFER, "listing-contradicted")
    assert "who deletes and creates the bucket" in (copy.remedy or "")
    assert "vanished" not in messages(finished)
    assert covered.calls.count("bigquery.jobs.insert") == 0
    covered.clear_faults()
    covered.advance(3600)
    assert run(covered).report["status"] == "ok"
