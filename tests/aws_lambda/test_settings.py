"""Settings: all problems are reported at once, before any call, and defaults depend on the partition."""

from __future__ import annotations

import hashlib

import pytest

from aws_lambda.settings import TAILPIPE_PRINCIPALS, read_settings
from shared.errors import SettingsError

REGION = {"AWS_REGION": "eu-west-1"}


def test_region_is_the_only_required_setting() -> None:
    """All other settings have the documented defaults."""
    settings = read_settings(REGION)
    assert settings.bucket_of("111122223333") == "tailpipe-dataexport-111122223333"
    assert (settings.prefix, settings.exports, settings.bucket_region) == ("dataexport", ("cur2",), "eu-west-1")
    assert settings.stackset == "Tailpipe-CloudWatch-Child-StackSet"
    assert settings.member_role == "tailpipe-child-connector"
    assert settings.connector_role == "tailpipe-connector-role"
    assert settings.principal == TAILPIPE_PRINCIPALS["prod"]
    assert settings.engine.call_budget == 0


def test_a_topic_without_deltas_names_both_settings() -> None:
    """Nothing would ever be published on it."""
    topic = {"DELIVERY_TOPIC": "arn:aws:sns:eu-west-1:111122223333:deliveries.fifo"}
    assert read_settings({**REGION, **topic, "DELTAS": "1"}).delivery_topic == topic["DELIVERY_TOPIC"]
    with pytest.raises(SettingsError) as caught:
        read_settings({**REGION, **topic})
    (problem,) = caught.value.problems
    assert "DELIVERY_TOPIC" in problem
    assert "DELTAS=1" in problem


def test_tailpipe_environment_sets_the_principal() -> None:
    """Tailpipe's UAT role reads UAT."""
    settings = read_settings({**REGION, "TAILPIPE_ENVIRONMENT": "uat"})
    assert settings.principal.endswith("role/TailpipeConnector-UAT")


def test_all_problems_are_reported_at_once() -> None:
    """One message has them all, so that one correction is enough."""
    wrong = {
        "AWS_REGION": "mars-north-1",
        "BUCKET_NAME": "Not A Bucket",
        "EXPORT_PREFIX": "state/x",
        "EXPORTS": "cur2,cur3",
        "INCLUDE_ACCOUNTS": "12345",
        "EXCLUDE_ACCOUNTS": "abc",
        "INCLUDE_OUS": "unit",
        "STACKSET_NAME": "9 lives",
        "CONNECTOR_ROLE_NAME": "a/b",
        "MEMBER_ROLE_NAME": "a b",
        "TAILPIPE_ENVIRONMENT": "test",
        "TAILPIPE_PRINCIPAL_ARN": "tailpipe",
        "EXTERNAL_ID_HASH": "plain-external-id",
        "KMS_KEY_ARN": "key",
        "AWS_ENDPOINT_URL": "https://example.com",
        "AWS_ENDPOINT_URL_S3": "http://10.0.0.1",
        "CALLS_AT_ONCE": "many",
        "MAX_VANISHED_PERCENT": "101",
        "DELTAS": "yes",
        "DELIVERY_TOPIC": "arn:aws:sns:eu-west-1:111122223333:not-fifo",
    }
    with pytest.raises(SettingsError) as caught:
        read_settings(wrong)
    assert {fault.split(":")[0] for fault in caught.value.problems} == set(wrong)
    assert "plain-external-id" not in str(caught.value)


@pytest.mark.parametrize("region", ["", "  "])
def test_region_is_required(region: str) -> None:
    """Partition and endpoints depend on it."""
    with pytest.raises(SettingsError, match="AWS_REGION: is required"):
        read_settings({"AWS_REGION": region})


def test_account_cannot_be_included_and_excluded() -> None:
    """A contradiction is a problem; there is no order of precedence."""
    with pytest.raises(SettingsError, match="111122223333 is also in INCLUDE_ACCOUNTS"):
        read_settings({**REGION, "INCLUDE_ACCOUNTS": "111122223333", "EXCLUDE_ACCOUNTS": "111122223333"})


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("us-gov-east-1", "aws-us-gov"),
        ("cn-north-1", "aws-cn"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_partition_is_derived_from_the_region(region: str, partition: str) -> None:
    """Only partition aws has Tailpipe's principal as default: roles of other partitions cannot trust it."""
    settings = read_settings({"AWS_REGION": region})
    assert settings.partition == partition
    assert bool(settings.principal) is (partition == "aws")


def test_principal_bucket_and_key_must_be_in_the_partition() -> None:
    """Those of another partition can never work and are rejected before any call."""
    with pytest.raises(SettingsError) as caught:
        read_settings(
            {
                "AWS_REGION": "us-gov-west-1",
                "BUCKET_REGION": "eu-west-1",
                "TAILPIPE_PRINCIPAL_ARN": TAILPIPE_PRINCIPALS["prod"],
                "KMS_KEY_ARN": "arn:aws:kms:eu-west-1:111122223333:key/abc",
            }
        )
    assert len(caught.value.problems) == 3


def test_external_id_is_compared_by_its_salted_hash() -> None:
    """The hash matches only the External ID, which itself is not in the settings."""
    salt = "00ff" * 8
    digest = hashlib.sha256(bytes.fromhex(salt) + b"secret-id").hexdigest()
    settings = read_settings({**REGION, "EXTERNAL_ID_HASH": f"{salt}:{digest}"})
    assert settings.external_id_matches("secret-id")
    assert not settings.external_id_matches("secret-id2")
    assert "secret-id" not in repr(settings)


def test_two_external_ids_are_accepted_during_a_rotation() -> None:
    """Several salted hashes, separated by commas, match only their External IDs."""
    salt = "00ff" * 8
    hashes = [f"{salt}:{hashlib.sha256(bytes.fromhex(salt) + one).hexdigest()}" for one in (b"next-id", b"last-id")]
    settings = read_settings({**REGION, "EXTERNAL_ID_HASH": ",".join(hashes)})
    assert settings.external_id_matches("next-id")
    assert settings.external_id_matches("last-id")
    assert not settings.external_id_matches("other-id")


TENANT = {
    "TENANT": "acme",
    "ENTRY_ROLE_ARN": "arn:aws:iam::222233334444:role/tailpipe-exports-tenant",
    "ENTRY_EXTERNAL_ID": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:acme-AbCdEf",
}
OWN = {"AWS_REGION": "eu-west-1", "BUCKET_NAME": "home", "BUCKET_REGION": "eu-central-1"}


def test_tenant_with_its_own_bucket_keeps_state_at_home() -> None:
    """The destination is the payer's; bucket, region and prefix of the deployment are those of the state."""
    settings = read_settings({**OWN, **TENANT})
    assert settings.bucket_of("222233334444") == "tailpipe-dataexport-222233334444"
    assert (settings.bucket_region, settings.prefix, settings.shared_bucket) == ("eu-west-1", "dataexport", False)
    assert (settings.home_of("111122223333"), settings.home_region) == ("home", "eu-central-1")
    assert settings.at_home().bucket_of("111122223333") == "home"


def test_tenant_in_the_shared_bucket_delivers_below_its_own_account() -> None:
    """The bucket belongs to the deployment, whatever account the exports are in."""
    settings = read_settings({**OWN, **TENANT, "DESTINATION_OWNER": "111122223333", "EXPORT_PREFIX": "in"})
    assert settings.bucket_of("222233334444") == "home"
    assert settings.owner_of_bucket("222233334444") == "111122223333"
    assert settings.prefix == "in/222233334444/acme"
    assert settings.bucket_region == "eu-central-1"


def test_tenant_inherits_no_principal() -> None:
    """Tailpipe's own principal is the default of the deployment only."""
    assert read_settings({**OWN, **TENANT}).principal == ""
    assert read_settings(OWN).principal


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"TENANT": ""}, "ENTRY_ROLE_ARN: only a run for a tenant has it"),
        ({"TENANT": "Acme"}, "TENANT: 'Acme' is not the id of a tenant"),
        ({"ENTRY_EXTERNAL_ID": ""}, "a role and its External ID belong together"),
        ({"ENTRY_EXTERNAL_ID": "the-secret-itself"}, "ENTRY_EXTERNAL_ID: its value is not the ARN of a secret"),
        ({"ENTRY_ROLE_ARN": "", "ENTRY_EXTERNAL_ID": ""}, "ENTRY_ROLE_ARN: is required"),
        ({"ENTRY_ROLE_ARN": "arn:aws-cn:iam::222233334444:role/x"}, "a role's ARN in aws"),
        ({"DESTINATION_OWNER": "111122223333", "DESTINATION_BUCKET": "mine"}, "only home may be shared"),
        ({"DESTINATION_OWNER": "111122223333", "DESTINATION_PREFIX": "mine"}, "DESTINATION_PREFIX: the deployment"),
        (
            {"BILLING_VIEW_ARN": "arn:aws:billing::222233334444:billingview/x", "EXPORTS": "cur2,focus"},
            "EXPORTS: AWS exports billing views only from cur2",
        ),
        ({"DESTINATION_PREFIX": "registry/x"}, "reserved for the function"),
    ],
)
def test_invalid_settings_of_a_tenant_are_named(change: dict[str, str], expected: str) -> None:
    """Before any call, and without a secret in the message."""
    with pytest.raises(SettingsError) as caught:
        read_settings({**OWN, **TENANT, **change})
    assert expected in str(caught.value)
    assert "the-secret-itself" not in str(caught.value)
