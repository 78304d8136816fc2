"""The local AWS as a whole: start and end, environment, control actions over HTTP, and the AWS CLI."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.limits import HANG_S
from tests.localcloud.aws.helpers import START, create_export, create_instances, members, statuses
from tests.localcloud.common.serving import serving
from tests.localcloud.control_client import ControlClient, ControlError

AWS = Path(sys.executable).with_name("aws")


def test_consecutive_clouds_share_nothing() -> None:
    """The second starts without the first one's exports, buckets and accounts."""
    with LocalAws(accounts=4) as first:
        create_export(first)
        first.client("s3").put_object(Bucket=first.deployment.bucket, Key="a", Body=b"")
        first_hash = first.deployment.external_id_hash
    with LocalAws(accounts=2) as second:
        assert second.client("bcm-data-exports").list_exports()["Exports"] == []
        assert second.client("s3").list_objects_v2(Bucket=second.deployment.bucket)["KeyCount"] == 0
        assert len(second.accounts()) == 2
        assert second.deployment.external_id_hash != first_hash


def test_second_concurrent_cloud_is_refused() -> None:
    """The message has the remedy, and the first cloud continues."""
    with LocalAws(accounts=1) as first:
        with pytest.raises(RuntimeError, match="another LocalAws is open"), LocalAws():
            raise AssertionError("a second local AWS was opened")
        first.client("sts").get_caller_identity()


def test_bare_cloud_is_empty_and_prints_no_settings() -> None:
    """It has no bucket, role or organization, and prints only the SDKs' variables."""
    with LocalAws(bare=True) as cloud:
        assert cloud.client("s3").list_buckets()["Buckets"] == []
        assert cloud.client("iam").list_roles()["Roles"] == []
        assert set(cloud.environment()) == {
            "AWS_ENDPOINT_URL",
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        }


def test_environment_does_not_contain_the_external_id(cloud: LocalAws) -> None:
    """It has only the salted hash, which matches the connector role's trust policy."""
    variables = cloud.environment()
    trust = cloud.client("iam").get_role(RoleName=variables["CONNECTOR_ROLE_NAME"])["Role"]["AssumeRolePolicyDocument"]
    external_id = trust["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"]
    salt, digest = variables["EXTERNAL_ID_HASH"].split(":")
    assert hashlib.sha256(bytes.fromhex(salt) + external_id.encode()).hexdigest() == digest
    assert external_id not in " ".join(variables.values())
    assert external_id not in repr(cloud.deployment)


@pytest.mark.parametrize("kind", ["delegated", "member"])
def test_environment_can_be_that_of_a_member_account(kind: str) -> None:
    """Credentials and bucket belong to the member account."""
    with LocalAws(accounts=3, kind=kind) as cloud:  # type: ignore[arg-type]  # parametrized text
        assert cloud.client("sts").get_caller_identity()["Account"] == members(cloud)[0]
        cloud.client("s3").head_bucket(Bucket=cloud.environment()["BUCKET_NAME"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partition": "aws-mars"}, "is not one of"),
        ({"accounts": 0}, "not enough"),
        ({"accounts": 1, "kind": "member"}, "not enough"),
        ({"page_size": 0}, "at least 1"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object], message: str) -> None:
    """A ValueError names them before anything starts."""
    with pytest.raises(ValueError, match=message):
        LocalAws(**settings)  # type: ignore[arg-type]  # deliberately wrong


def test_control_actions_work_over_http(cloud: LocalAws) -> None:
    """Another process sees and changes the same state; an invalid action is refused with the reason."""
    remote = ControlClient(cloud.endpoint)
    new = remote.join_account(name="new")
    assert cloud.accounts()[new] == "ACTIVE"
    create_export(cloud)
    assert remote.exports() == {"tailpipe-dataexport": "HEALTHY"}
    assert remote.deliver() == {"tailpipe-dataexport": "DELIVERY_SUCCESS"}
    remote.delete_export(name="tailpipe-dataexport")
    remote.remove_bucket_policy_statement(sid="TailpipeDataExports")
    assert [one["Sid"] for one in remote.bucket_policy()["Statement"]] == ["TailpipeTlsOnly"]
    assert remote.advance(seconds=60) == "2026-03-15T12:01:00+00:00"
    assert [one["operation"] for one in remote.calls()] == ["CreateExport"]
    for action, arguments, reason in (
        ("delete_export", {"name": "none"}, "no export 'none'"),
        ("delete_export", {}, "missing a required argument"),
        ("no_such_action", {}, "no action"),
    ):
        with pytest.raises(ControlError, match=reason):
            remote.act(action, arguments)


def test_apis_show_a_failed_instance_and_a_removed_role(cloud: LocalAws) -> None:
    """fail_instance changes the status and removes the role; remove_member_role keeps the status."""
    create_instances(cloud)
    failed, hollow = members(cloud)[:2]
    cloud.fail_instance(failed)
    cloud.remove_member_role(hollow)
    assert statuses(cloud)[failed] == ("OUTDATED", "FAILED")
    assert statuses(cloud)[hollow] == ("CURRENT", "SUCCEEDED")
    for account in (failed, hollow):
        with pytest.raises(ClientError, match="NoSuchEntity"):
            cloud.client("iam", account).get_role(RoleName="tailpipe-child-connector")


def test_stack_set_deploys_to_five_thousand_accounts_in_seconds() -> None:
    """One operation covers 4,999 members, and every instance is listed."""
    with LocalAws(accounts=5000, clock=VirtualClock(START)) as cloud:
        create_instances(cloud)
        assert len(statuses(cloud)) == 4999


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """Run `serve` in a separate process; return the environment that it prints."""
    with serving("aws.cloud.LocalAws(accounts=3)") as (process, variables):
        yield variables, process


def cli(variables: dict[str, str], home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the AWS CLI with only the printed variables in its environment."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [str(AWS), *arguments, "--output", "text"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.mark.skipif(not AWS.exists(), reason="the AWS CLI is not in this virtual environment")
def test_aws_cli_works_with_the_printed_variables(
    served: tuple[dict[str, str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """It creates an account, lists and deletes exports, and removes the bucket policy."""
    variables, _ = served
    made = cli(
        variables, tmp_path, "organizations", "create-account", "--email", "n@example.com", "--account-name", "n"
    )
    assert "IN_PROGRESS" in made.stdout
    assert len(ControlClient(variables["AWS_ENDPOINT_URL"]).accounts()) == 4
    assert cli(variables, tmp_path, "bcm-data-exports", "list-exports").returncode == 0
    arn = "arn:aws:bcm-data-exports:us-east-1:111122223333:export/none"
    gone = cli(variables, tmp_path, "bcm-data-exports", "delete-export", "--export-arn", arn)
    assert "ResourceNotFoundException" in gone.stderr
    bucket = variables["BUCKET_NAME"]
    assert cli(variables, tmp_path, "s3api", "delete-bucket-policy", "--bucket", bucket).returncode == 0
    assert ControlClient(variables["AWS_ENDPOINT_URL"]).bucket_policy() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_exits_cleanly_on_a_signal(number: signal.Signals) -> None:
    """The exit code is 0, and standard error is empty."""
    with serving("aws.cloud.LocalAws(bare=True)") as (process, _):
        process.send_signal(number)
        _, errors = process.communicate(timeout=HANG_S)
        assert (process.returncode, errors) == (0, "")
