"""deploy and destroy from beginning to end, the same for every cloud: what is asked, refused, and in which order."""

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
from tests.cli.support.aws import EXTERNAL_ID, FUNCTION, GIVEN, account, sign_in, stderr_of, tailpipe, writes
from tests.cli.support.operating import DATA, HELD, IDENTITY, Typing, package, terraform, typing
from tests.cli.support.terraform_double import MODULE, TerraformDouble, change
from tests.localcloud.aws.iam.sessions import document

pytestmark = pytest.mark.long

AWS = CLOUDS["aws"]
__all__ = ["package", "terraform", "typing"]  # fixtures, found by their names


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return a deployment, signed in to, whose function ran once."""
    with account(accounts=2) as cloud:
        sign_in(cloud, monkeypatch)
        run(cloud)
        cloud.clear_calls()
        yield cloud


def adopted(cloud: LocalAws) -> list[dict[str, Any]]:
    """Return a plan of which the first two exist, and the second shows its name once the first is imported."""
    bucket = cloud.deployment.bucket
    return [
        change("aws_s3_bucket.exports", bucket=bucket),
        change("aws_s3_bucket_policy.exports", later={"bucket": bucket}),
        change("aws_sqs_queue.new", name="tailpipe-exports-new"),
    ]


def test_a_deployment_goes_from_plan_to_proof(aws: LocalAws, terraform: TerraformDouble, package: str) -> None:
    """What exists is adopted, parts of it in the plan after; then apply, one run, verification, and the document."""
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
        "rights are present",
        "adopted:",
        "The function may:",
        "applying",
        "running the function once",
        "✓ the sch",
    ]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)


def test_the_states_bucket_is_private_encrypted_and_versioned(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """Made before the first plan: it refuses everything public and what comes without TLS; made once."""
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


def test_no_secret_is_on_a_command_line_in_a_file_or_shown(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """The External ID travels in the environment alone; not even a fault of Terraform's makes the command quote it."""
    terraform.plan(adopted(aws))
    terraform.break_at("aws_sqs_queue.new")
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package)
    assert result.exit_code == 1
    assert terraform.calls("apply")[0].values["external_id"] == EXTERNAL_ID
    for one in terraform.calls():
        assert EXTERNAL_ID not in json.dumps([one.argv, one.files])
    for secret in (EXTERNAL_ID, aws.environment()["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in result.output


def test_a_yes_on_the_terminal_is_enough(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, typing: Typing
) -> None:
    """Asked after the plan and the grants; with a yes, however it is written, they are carried out."""
    terraform.plan([change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    screen = typing(" YES ")
    pairs = ["environment=prod", "notification_emails=[]", package]
    assert deploy(AWS, Wanted(pairs, local_state=tmp_path / "state")) == 0
    text = screen.getvalue()
    assert text.index("The function may:") < text.index("[y/N]") < text.index("applying")
    assert len(terraform.calls("apply")) == 1


ALARMS = [change(f'aws_cloudwatch_metric_alarm.this["{one}"]', alarm_name=f"tailpipe-new-{one}") for one in range(4)]


def test_an_address_for_alarms_is_asked_for_on_a_terminal(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, typing: Typing
) -> None:
    """Asked before the plan, so that the plan has it; several are separated by commas; then the plan is asked about."""
    terraform.plan(ALARMS)
    screen = typing("one@example.com, two@example.com\nyes")
    pairs = ["environment=prod", package]
    assert deploy(AWS, Wanted(pairs, local_state=tmp_path / "state")) == 0
    assert terraform.calls("plan")[0].values["notification_emails"] == ["one@example.com", "two@example.com"]
    text = screen.getvalue()
    assert text.index("E-mail address for alarms") < text.index("4 alarms notify one@example.com") < text.index("[y/N]")


def test_the_external_id_is_in_a_private_file_and_nowhere_else(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path
) -> None:
    """A pipeline's log holds none of it; the file, mode 0600, is named."""
    file = tmp_path / "onboarding.json"
    shown = ("--onboarding-file", str(file))
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package, *shown)
    assert result.exit_code == 0, result.stderr
    assert aws.deployment.external_id not in result.output
    assert str(file) in stderr_of(result)
    assert json.loads(file.read_text())["tailpipe"]["externalId"] == aws.deployment.external_id
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_deployment_without_changes_asks_nothing_and_is_proven_again(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """Nothing to apply needs no yes: the function runs, everything is verified, the document comes."""
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package)
    assert result.exit_code == 0, result.stderr
    assert terraform.calls("apply") == []
    assert "nothing to change" in stderr_of(result)
    assert json.loads(result.stdout)["awsAccountNumber"] == aws.account


def test_a_deployment_whose_first_run_was_degraded_ends_with_3(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """It is deployed and verified, the document is printed, and the exit code says that the run was not whole."""
    denied = document({"Effect": "Deny", "Action": "organizations:ListAccounts", "Resource": "*"})
    aws.client("iam").put_role_policy(RoleName=FUNCTION, PolicyName="denied", PolicyDocument=denied)
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package)
    assert result.exit_code == 3, result.stderr
    assert "the first run was degraded" in stderr_of(result)
    assert json.loads(result.stdout)["awsAccountNumber"] == aws.account


def test_a_deployment_that_does_not_work_ends_with_1(aws: LocalAws, terraform: TerraformDouble, package: str) -> None:
    """Applied and run, yet its schedule is off: the document is printed, and the command does not claim success."""
    client = aws.client("scheduler")
    kept = client.get_schedule(Name=FUNCTION, GroupName=FUNCTION)
    names = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    client.update_schedule(**{name: kept[name] for name in names}, State="DISABLED")
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package)
    assert result.exit_code == 1
    assert "✗ the schedule starts the function · it is disabled" in stderr_of(result)
    assert "deployed, but some checks failed" in stderr_of(result)


def test_a_function_that_does_not_answer_is_no_failed_deployment(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """Applied, and the first run fails: 1, what else was looked at, what to do, and no word of a missing right."""
    terraform.plan([change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    aws.fault("lambda", "Invoke", "InvalidRuntimeException", times=None)
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package)
    aws.clear_faults()
    assert (result.exit_code, len(terraform.calls("apply"))) == (1, 1)
    assert "AWS was deployed, but could not be verified" in stderr_of(result)
    assert "✓ the schedule starts the function" in stderr_of(result)
    assert "call the same command again" in stderr_of(result)
    assert "was not deployed" not in stderr_of(result)
    assert "doctor" not in stderr_of(result)


def test_a_local_cloud_gets_a_package_that_it_can_run(
    aws: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a package of one's own it is built for this machine, whose Python the local AWS runs it with."""
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
def test_a_removal_stops_clears_forgets_and_destroys_in_this_order(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, flags: tuple[str, ...], kept: set[str]
) -> None:
    """The schedule is off before the state changes; what is kept leaves the state and is in no plan to destroy."""
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


def test_a_dry_run_of_a_removal_ends_with_0_once_nothing_is_left(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """After the removal the same question has the answer that nothing is to be removed."""
    terraform.hold(HELD)
    state = ("--local-state", str(tmp_path / "state"))
    assert tailpipe("destroy", "aws", "--confirm", aws.account, *state).exit_code == 0
    aws.client("lambda").delete_function(FunctionName=FUNCTION)
    result = tailpipe("destroy", "aws", "--dry-run", *state)
    assert result.exit_code == 0, result.stderr
    assert "nothing to remove" in stderr_of(result)


def test_a_deployment_of_which_half_is_gone_is_removed(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """Schedule, function, bucket and StackSet were deleted by hand: a dry run and a removal work without them."""
    aws.client("scheduler").delete_schedule(Name=FUNCTION, GroupName=FUNCTION)
    aws.client("lambda").delete_function(FunctionName=FUNCTION)
    terraform.hold(HELD[:4])
    state = ("--local-state", str(tmp_path / "state"))
    asked = ("--delete-exports", "--delete-data")
    assert tailpipe("destroy", "aws", *asked, "--dry-run", *state).exit_code == 2
    result = tailpipe("destroy", "aws", *asked, "--confirm", aws.account, *state)
    assert result.exit_code == 0, result.stderr
    assert (terraform.held(), aws.exports(), aws.instances()) == ([], {}, {})


def test_the_typed_id_removes(aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, typing: Typing) -> None:
    """Typed out on a terminal, after what goes and what stays is shown."""
    terraform.hold(HELD)
    screen = typing(aws.account)
    assert destroy(AWS, Removal(), None, tmp_path / "state") == 0
    text = " ".join(screen.getvalue().split())
    assert text.index("to be kept: bucket") < text.index("Type the id")
    assert terraform.held() == []


def test_a_removal_that_fails_halfway_goes_on_where_it_was(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """Terraform fails at one resource: the command ends with 1; the same call again removes the rest."""
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
