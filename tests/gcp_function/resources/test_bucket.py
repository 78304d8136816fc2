"""The export bucket: created if missing, repaired field by field, and never taken from another project."""

from __future__ import annotations

import pytest

from gcp_function.resources.bucket import reaches
from localcloud.gcp.cloud import LocalGcp
from shared.model import Result, Verb
from tests.gcp_function.support import accounts, action, export_bucket, local_gcp, messages, outcome, run

BUCKET = "tailpipe-billing-export-tailpipe-dataexport"


def test_deleted_bucket_is_recreated_with_all_copies(covered: LocalGcp) -> None:
    """Because all copies vanish with it, the guard refuses the run until it is forced."""
    before = {name for name in covered.copies() if name.endswith("manifest.json")}
    covered.delete_bucket()
    (refused,) = run(covered).report["failures"]
    assert refused["code"] == "vanished"
    assert f"bucket/{BUCKET}, which is gone, too" in refused["remedy"]
    assert "credentials" not in refused["remedy"]
    assert run(covered, force=True).report["status"] == "ok"
    assert {name for name in covered.copies() if name.endswith("manifest.json")} == before


def test_drift_is_repaired_and_foreign_rules_are_kept(covered: LocalGcp) -> None:
    """The repair restores uniform access and keeps public access prevention and foreign lifecycle rules."""
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


def test_missing_public_access_prevention_is_reported(covered: LocalGcp) -> None:
    """The manual step has the command; the run does not change the setting, and copies continue."""
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


def test_soft_delete_is_reported_and_accounts_stay_covered(covered: LocalGcp) -> None:
    """Soft delete only costs money: the step has the command. A recreated bucket has it disabled."""
    document = covered.world.buckets.find(BUCKET).document
    document["softDeletePolicy"] = {"retentionDurationSeconds": "604800"}
    finished = run(covered)
    assert action(finished, "soft-delete").reason == "soft-delete"
    assert f"gcloud storage buckets update gs://{BUCKET} --clear-soft-delete" in messages(finished)
    assert finished.report["scopes"]["covered"] == 3
    covered.delete_bucket()
    run(covered, force=True)
    assert export_bucket(covered)["softDeletePolicy"]["retentionDurationSeconds"] in (0, "0")


def test_other_storage_classes_are_kept(covered: LocalGcp) -> None:
    """A lifecycle rule with another storage class is not drift, because the deployment may have set it."""
    covered.world.buckets.find(BUCKET).document["lifecycle"] = {
        "rule": [{"action": {"type": "SetStorageClass", "storageClass": "ARCHIVE"}, "condition": {"age": 9}}]
    }
    assert action(run(covered), "bucket").verb is Verb.KEEP


def test_rule_that_deletes_old_copies_is_reported_and_kept(covered: LocalGcp) -> None:
    """A rule that deletes copies after 90 days, as the old script set it, becomes a manual step and blocks nothing."""
    document = covered.world.buckets.find(BUCKET).document
    rule = {"action": {"type": "Delete"}, "condition": {"age": 90}}
    document["lifecycle"] = {"rule": [*document["lifecycle"]["rule"], rule]}
    finished = run(covered)
    assert action(finished, "retention").verb is Verb.MANUAL
    assert "90 days" in messages(finished)
    assert finished.report["status"] == "ok"
    assert action(finished, "bucket").verb is Verb.KEEP


def test_bucket_in_an_unreachable_location_is_reported() -> None:
    """BigQuery cannot write there, so no extract job starts and the step asks for another bucket."""
    with local_gcp(location="EU") as cloud:
        cloud.world.buckets.find(BUCKET).document["location"] = "US"
        finished = run(cloud)
        assert action(finished, "bucket").verb is Verb.MANUAL
        assert "Set EXPORT_BUCKET to an unused name" in messages(finished)
        assert action(finished, "copy", accounts(cloud)[0], "standard/2026-11-22").verb is Verb.BLOCK
        assert cloud.calls.count("bigquery.jobs.insert") == 0


def test_bucket_of_another_project_is_left_alone(gcp: LocalGcp) -> None:
    """The step asks for another name; the run does not change the bucket."""
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
def test_extract_reaches_the_documented_locations(dataset: str, place: str, reached: bool) -> None:
    """BigQuery's documented location rules decide before any job starts."""
    assert reaches(dataset, place) is reached
