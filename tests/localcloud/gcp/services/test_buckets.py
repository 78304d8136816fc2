"""Cloud Storage buckets, through Google's client."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed

from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.projects import Project
from tests.localcloud.gcp.conftest import START, Clients


def test_bucket_is_created_as_requested(operator: Clients) -> None:
    """Location, uniform access, public access prevention and lifecycle rules are stored and can be patched."""
    gcp = operator
    bucket = gcp.storage.bucket("made-by-a-test")
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.add_lifecycle_set_storage_class_rule("NEARLINE", age=30)
    gcp.storage.create_bucket(bucket, location="eu", retry=None)
    found = gcp.storage.get_bucket("made-by-a-test")
    assert (found.location, found.location_type, found.metageneration) == ("EU", "multi-region", 1)
    assert found.iam_configuration.uniform_bucket_level_access_enabled
    assert found.iam_configuration.uniform_bucket_level_access_locked_time is not None
    assert found.iam_configuration.public_access_prevention == "enforced"
    assert [rule["action"]["storageClass"] for rule in found.lifecycle_rules] == ["NEARLINE"]
    found.iam_configuration.public_access_prevention = "inherited"
    found.clear_lifecycle_rules()
    found.patch(retry=None)
    again = gcp.storage.get_bucket("made-by-a-test")
    assert again.iam_configuration.public_access_prevention == "inherited"
    assert (list(again.lifecycle_rules), again.metageneration) == ([], 2)


def test_patch_with_a_stale_metageneration_is_412(gcp: Clients) -> None:
    """The bucket has changed since it was read."""
    bucket = gcp.storage.get_bucket(gcp.cloud.deployment.bucket)
    other = gcp.storage.get_bucket(gcp.cloud.deployment.bucket)
    other.labels = {"by": "other"}
    other.patch(retry=None)
    bucket.labels = {"by": "us"}
    with pytest.raises(PreconditionFailed):
        bucket.patch(if_metageneration_match=1, retry=None)


def test_taken_bucket_name_is_409(gcp: Clients, clients: Callable[..., Clients]) -> None:
    """This holds for the caller's buckets and for those that the caller cannot read."""
    with pytest.raises(Conflict, match="you already own it"):
        gcp.storage.create_bucket(gcp.cloud.deployment.bucket, retry=None)
    world = gcp.cloud.world
    world.projects.add(Project("elsewhere", "organizations/9", START, billing="its-own"))
    world.iam.grant(OPERATOR, "roles/owner", "projects/elsewhere")
    clients(gcp.cloud, OPERATOR).storage.create_bucket("taken-already", project="elsewhere", retry=None)
    with pytest.raises(Conflict, match="not available"):
        gcp.storage.create_bucket("taken-already", retry=None)
    with pytest.raises(Forbidden, match=r"storage\.buckets\.get"):
        gcp.storage.get_bucket("taken-already", retry=None)


def test_missing_bucket_is_404(gcp: Clients) -> None:
    """The caller may read the project's buckets."""
    with pytest.raises(NotFound):
        gcp.storage.get_bucket("there-is-none", retry=None)


@pytest.mark.parametrize(
    ("name", "location"),
    [("googly-bucket", "US"), ("has-google-inside", "US"), ("192.168.5.4", "US"), ("fine-name", "MARS")],
)
def test_invalid_bucket_name_or_location_is_400(gcp: Clients, name: str, location: str) -> None:
    """This covers reserved words, IP addresses and unknown locations."""
    with pytest.raises(BadRequest):
        gcp.storage.create_bucket(name, location=location, retry=None)


def test_deleting_a_bucket_with_objects_is_409(operator: Clients) -> None:
    """An empty bucket is deleted."""
    bucket = operator.storage.create_bucket("short-lived", retry=None)
    blob = bucket.blob("a")
    blob.upload_from_string("1", retry=None)
    with pytest.raises(Conflict):
        bucket.delete(retry=None)
    blob.delete(retry=None)
    bucket.delete(retry=None)
    assert operator.storage.lookup_bucket("short-lived") is None


def test_lifecycle_rule_changes_the_class_of_old_objects(gcp: Clients) -> None:
    """Younger objects and objects with another name keep their class."""
    bucket = gcp.storage.bucket(gcp.cloud.deployment.bucket)
    for name in ("old.parquet", "manifest.json"):
        bucket.blob(name).upload_from_string("1", retry=None)
    gcp.cloud.advance(seconds=91 * 24 * 3600)
    bucket.blob("new.parquet").upload_from_string("1", retry=None)
    assert gcp.cloud.apply_lifecycle() == {"NEARLINE": 1}
    classes = {blob.name: blob.storage_class for blob in bucket.list_blobs()}
    assert classes == {"old.parquet": "NEARLINE", "manifest.json": "STANDARD", "new.parquet": "STANDARD"}
