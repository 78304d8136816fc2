"""deploy and destroy from start to end, the same for every cloud: prompts, refusals and their order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.clouds import CLOUDS
from cli.deployment.commands.deploy import Wanted, deploy
from cli.deployment.commands.destroy import destroy
from cli.deployment.model import Removal
from cli.packaging import PackagingError, Target
from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import run
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import FUNCTION, GIVEN, account, sign_in, stderr_of, tailpipe, writes
from tests.cli.support.operating import DATA, HELD, IDENTITY, Typing, package, terraform, typing
from tests.cli.support.terraform_double import MODULE, TerraformDouble, change
from tests.localcloud.aws.iam.sessions import document

pytestmark = pytest.mark.long

AWS = CLOUDS["aws"]
__all__ = ["package", "terraform", "typing"]  # fixtures, which pytest finds by name


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return a deployment, signed in, after one run of the function."""
    with account(accounts=2) as cloud:
        sign_in(cloud, monkeypatch)
        run(cloud)
        cloud.clear_calls()
        yield cloud


def adopted(cloud: LocalAws) -> list[dict[str, Any]]:
    """Return a plan whose first two resources exist; the second one's name is known once the first is imported."""
    bucket = cloud.deployment.bucket
    return [
        change("aws_s3_bucket.exports", bucket=bucket),
        change("aws_s3_bucket_policy.exports", later={"bucket": bucket}),
        change("aws_sqs_queue.new", name="tailpipe-exports-new"),
    ]


def test_deployment_goes_from_plan_to_verification(aws: LocalAws, terraform: TerraformDouble, package: str) -> None:
    """Existing resources are adopted in two plans; then apply, one run, verification and onboarding follow."""
    terraform.plan(adopted(aws))
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package)
    assert result.exit_code == 0, result.stderr
    bucket = aws.deployment.bucket
    assert [one.imports for one in terraform.calls("plan")] == [
        {},
        {"aws_s3_bucket.exports": bucket},
        {"aws_s3_bucket.exports": bucket, "aws_s3_bucket_policy.exports": bucket},
    ]
    (applied,) = terraform.calls("apply")
    assert len(applied.applied) == 3
    assert applied.values == {
        "account_kind": "management",
        "environment": "prod",
        "external_id": EXTERNAL_ID,
        "package": "tailpipe-exports-aws.zip",
    }
    assert applied.root["module"]["tailpipe"]["providers"] == {"aws": "aws", "aws.home": "aws.home"}
    backend = applied.root["terraform"]["backend"]["s3"]
    assert (backend["bucket"], backend["encrypt"]) == (f"tailpipe-terraform-{aws.account}", True)
    assert json.loads(result.stdout)["costExport"]["s3Bucket"] == bucket
    text = stderr_of(result)
    steps = [
        "permissions are present",
        "adopted:",
        "The function may:",
        "applying",
        "running the function once",
        "✓ the sch",
    ]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)


def test_state_bucket_is_created_before_the_first_plan(aws: LocalAws, terraform: TerraformDouble, package: str) -> None:
    """It refuses public access and calls without TLS, and is created once."""
    terraform.plan([change("terraform_data.one")])
    for _ in range(2):
        assert tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package).exit_code == 0
    made = [one for one in writes(aws) if one == "CreateBucket"]
    assert len(made) == 1
    s3, name = aws.client("s3"), f"tailpipe-terraform-{aws.account}"
    block = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_external_id_is_in_no_argument_file_or_output(aws: LocalAws, terraform: TerraformDouble, package: str) -> None:
    """It is passed in the environment; even an error of Terraform's does not show it."""
    terraform.plan(adopted(aws))
    terraform.break_at("aws_sqs_queue.new")
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package)
    assert result.exit_code == 1
    assert terraform.calls("apply")[0].values["external_id"] == EXTERNAL_ID
    for one in terraform.calls():
        assert EXTERNAL_ID not in json.dumps([one.argv, one.files])
    for secret in (EXTERNAL_ID, aws.environment()["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in result.output


@pytest.mark.slow
def test_yes_on_the_terminal_applies_the_plan(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, typing: Typing
) -> None:
    """The prompt follows the plan and the permissions, and accepts any spelling of yes."""
    terraform.plan([change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    screen = typing(" YES ")
    pairs = ["environment=prod", "notification_emails=[]", package]
    assert deploy(AWS, Wanted(pairs, local_state=tmp_path / "state")) == 0
    text = screen.getvalue()
    assert text.index("The function may:") < text.index("[y/N]") < text.index("applying")
    assert len(terraform.calls("apply")) == 1


ALARMS = [change(f'aws_cloudwatch_metric_alarm.this["{one}"]', alarm_name=f"tailpipe-new-{one}") for one in range(4)]


@pytest.mark.slow
def test_alarm_addresses_are_prompted_for_before_the_plan(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, typing: Typing
) -> None:
    """Several are separated by commas; then the plan is confirmed."""
    terraform.plan(ALARMS)
    screen = typing("one@example.com, two@example.com\nyes")
    pairs = ["environment=prod", package]
    assert deploy(AWS, Wanted(pairs, local_state=tmp_path / "state")) == 0
    assert terraform.calls("plan")[0].values["notification_emails"] == ["one@example.com", "two@example.com"]
    text = screen.getvalue()
    assert text.index("E-mail address for alarms") < text.index("4 alarms notify one@example.com") < text.index("[y/N]")


def test_external_id_is_only_in_a_private_file(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path
) -> None:
    """The output has only the file's name, and the file has mode 0600."""
    file = tmp_path / "onboarding.json"
    shown = ("--onboarding-file", str(file))
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package, *shown)
    assert result.exit_code == 0, result.stderr
    assert aws.deployment.external_id not in result.output
    assert str(file) in stderr_of(result)
    assert json.loads(file.read_text())["tailpipe"]["externalId"] == aws.deployment.external_id
    assert file.stat().st_mode & 0o777 == 0o600


def test_deployment_without_changes_is_verified_without_a_prompt(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """The function runs, and the onboarding document is printed."""
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package)
    assert result.exit_code == 0, result.stderr
    assert terraform.calls("apply") == []
    assert "nothing to change" in stderr_of(result)
    assert json.loads(result.stdout)["awsAccountNumber"] == aws.account


@pytest.mark.slow
def test_deployment_with_a_degraded_first_run_exits_with_3(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """It is deployed and verified, and the document is printed."""
    denied = document({"Effect": "Deny", "Action": "organizations:ListAccounts", "Resource": "*"})
    aws.client("iam").put_role_policy(RoleName=FUNCTION, PolicyName="denied", PolicyDocument=denied)
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package)
    assert result.exit_code == 3, result.stderr
    assert "the first run was degraded" in stderr_of(result)
    assert json.loads(result.stdout)["awsAccountNumber"] == aws.account


@pytest.mark.slow
def test_deployment_with_a_finding_exits_with_1(aws: LocalAws, terraform: TerraformDouble, package: str) -> None:
    """Its schedule is disabled: the document is printed, but no success is reported."""
    client = aws.client("scheduler")
    kept = client.get_schedule(Name=FUNCTION, GroupName=FUNCTION)
    names = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    client.update_schedule(**{name: kept[name] for name in names}, State="DISABLED")
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package)
    assert result.exit_code == 1
    assert "✗ the schedule starts the function · it is disabled" in stderr_of(result)
    assert "deployed, but some checks failed" in stderr_of(result)


def test_failed_first_run_is_reported_after_the_apply(aws: LocalAws, terraform: TerraformDouble, package: str) -> None:
    """The exit code is 1, with the other checks and a remedy, but without a missing permission."""
    terraform.plan([change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    aws.fault("lambda", "Invoke", "InvalidRuntimeException", times=None)
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package)
    aws.clear_faults()
    assert (result.exit_code, len(terraform.calls("apply"))) == (1, 1)
    assert "AWS was deployed, but could not be verified" in stderr_of(result)
    assert "✓ the schedule starts the function" in stderr_of(result)
    assert "run the same command again" in stderr_of(result)
    assert "was not deployed" not in stderr_of(result)
    assert "doctor" not in stderr_of(result)


def test_package_for_a_local_cloud_is_built_for_this_machine(
    aws: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local AWS runs it with this Python."""
    built_for: list[Target | None] = []

    def build(_cloud: str, _folder: Path, target: Target | None) -> None:
        built_for.append(target)
        raise PackagingError(["no archive in this test"])

    monkeypatch.setattr("cli.deployment.commands.deploy.build", build)
    assert tailpipe("deploy", "aws", "--dry-run", *GIVEN).exit_code == 1
    assert built_for == [Target.host()]


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), DATA),
        (("--keep-identity",), DATA | IDENTITY),
        (("--delete-exports",), DATA),
        (("--delete-exports", "--delete-data"), set()),
        (("--delete-exports", "--delete-data", "--keep-identity"), IDENTITY),
    ],
    ids=["default", "keep-identity", "exports", "everything", "everything-but-identity"],
)
def test_removal_stops_clears_forgets_and_destroys_in_order(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, flags: tuple[str, ...], kept: set[str]
) -> None:
    """Kept resources are removed from the state, so no plan destroys them."""
    terraform.hold(HELD)
    state = ("--local-state", str(tmp_path / "state"))
    result = tailpipe("destroy", "aws", *flags, "--confirm", aws.account, *state)
    assert result.exit_code == 0, result.stderr
    forgotten = {one.removeprefix(MODULE) for call in terraform.calls("state", "rm") for one in call.argv[3:]}
    (applied,) = terraform.calls("apply")
    assert forgotten == kept
    assert {one.removeprefix(MODULE) for one in applied.applied} == set(HELD) - kept
    assert ("module" in applied.root, applied.variables.keys() - {"TF_VAR_external_id"}) == (False, set())
    stopped = next(one for one in aws.calls.select() if one.operation == "UpdateSchedule").at.timestamp()
    assert stopped <= min(one.at for one in (*terraform.calls("state", "rm"), applied))
    assert (aws.exports() == {}) == ("--delete-exports" in flags)
    assert (aws.instances() == {}) == ("--keep-identity" not in flags)


def test_dry_run_of_a_removal_exits_with_0_if_nothing_is_left(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """This is the case after a removal."""
    terraform.hold(HELD)
    state = ("--local-state", str(tmp_path / "state"))
    assert tailpipe("destroy", "aws", "--confirm", aws.account, *state).exit_code == 0
    aws.client("lambda").delete_function(FunctionName=FUNCTION)
    result = tailpipe("destroy", "aws", "--dry-run", *state)
    assert result.exit_code == 0, result.stderr
    assert "nothing to remove" in stderr_of(result)


@pytest.mark.usefixtures("terraform")
def test_removal_without_a_deployment_says_so(aws: LocalAws) -> None:
    """Without a state, nothing tells a second removal from one in the wrong account; only the first needs no more."""
    removal = ("destroy", "aws", "--confirm", aws.account)
    lost = tailpipe(*removal)
    aws.client("lambda").delete_function(FunctionName=FUNCTION)
    gone = tailpipe(*removal)
    assert (lost.exit_code, gone.exit_code) == (1, 1)
    assert "nothing is left to do" not in stderr_of(lost)
    assert "nothing is deployed here, and Terraform's state is not in" in stderr_of(gone)
    assert "If the deployment has been removed, nothing is left to do. Is this the right" in stderr_of(gone)


def test_partly_deleted_deployment_can_be_removed(aws: LocalAws, terraform: TerraformDouble, tmp_path: Path) -> None:
    """Schedule, function, bucket and StackSet were deleted by hand."""
    aws.client("scheduler").delete_schedule(Name=FUNCTION, GroupName=FUNCTION)
    aws.client("lambda").delete_function(FunctionName=FUNCTION)
    terraform.hold(HELD[:4])
    state = ("--local-state", str(tmp_path / "state"))
    asked = ("--delete-exports", "--delete-data")
    assert tailpipe("destroy", "aws", *asked, "--dry-run", *state).exit_code == 2
    result = tailpipe("destroy", "aws", *asked, "--confirm", aws.account, *state)
    assert result.exit_code == 0, result.stderr
    assert (terraform.held(), aws.exports(), aws.instances()) == ([], {}, {})


def test_removal_needs_the_typed_id(aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, typing: Typing) -> None:
    """The prompt follows the list of what is deleted and kept."""
    terraform.hold(HELD)
    screen = typing(aws.account)
    assert destroy(AWS, Removal(), None, tmp_path / "state") == 0
    text = " ".join(screen.getvalue().split())
    assert text.index("to be kept: bucket") < text.index("Type the id")
    assert terraform.held() == []


def test_failed_removal_continues_with_the_next_call(aws: LocalAws, terraform: TerraformDouble, tmp_path: Path) -> None:
    """Terraform fails at one resource, and the command exits with 1."""
    terraform.hold(HELD)
    terraform.break_at("aws_lambda_function.this")
    arguments = ("destroy", "aws", "--confirm", aws.account, "--local-state", str(tmp_path / "state"))
    result = tailpipe(*arguments)
    assert result.exit_code == 1
    assert "aws_lambda_function.this: it broke" in stderr_of(result)
    assert 0 < len(terraform.held()) < len(HELD)
    terraform.break_at("")
    assert tailpipe(*arguments).exit_code == 0
    assert terraform.held() == []
