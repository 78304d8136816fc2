"""The export bucket: created where it is missing, repaired field by field, never taken from another project."""

from __future__ import annotations

import pytest

from gcp_function.resources.bucket import reaches
from localcloud.gcp.cloud import LocalGcp
from shared.model import Result, Verb
from tests.gcp_function.support import accounts, action, export_bucket, local_gcp, messages, outcome, run

BUCKET = "tailpipe-billing-export-tailpipe-dataexport"


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
    healed = export_bucket(covered)
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
    assert export_bucket(covered)["softDeletePolicy"]["retentionDurationSeconds"] in (0, "0")


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
