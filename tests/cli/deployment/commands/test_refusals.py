"""Cases in which deploy and destroy stop: nothing is changed, and a remedy is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from cli.clouds import CLOUDS
from cli.deployment.commands.deploy import Wanted, deploy
from cli.deployment.commands.destroy import destroy
from cli.deployment.engine import NATIVE
from cli.deployment.model import Removal
from cli.deployment.operator import Operator
from localcloud.aws.cloud import LocalAws
from tests.cli.support.aws import GIVEN, account, sign_in, stderr_of, tailpipe, writes
from tests.cli.support.operating import HELD, Typing, package, terraform, typing
from tests.cli.support.terraform_double import TerraformDouble, change

AWS = CLOUDS["aws"]
__all__ = ["package", "terraform", "typing"]  # fixtures, which pytest finds by name


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalAws]:
    """Return a deployment that no test here changes."""
    with account(accounts=2) as cloud:
        yield cloud


@pytest.fixture
def aws(lasting: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """Return that deployment, signed in."""
    sign_in(lasting, monkeypatch)
    lasting.clear_calls()
    return lasting


@pytest.mark.parametrize("answer", ["n", "", "yep"])
def test_any_other_answer_than_yes_changes_nothing(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, typing: Typing, answer: str
) -> None:
    """The prompt names the account."""
    terraform.plan([change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    screen = typing(answer)
    pairs = ["environment=prod", "notification_emails=[]", package]
    assert deploy(AWS, Wanted(pairs, local_state=tmp_path / "state")) == 1
    assert f"Make these changes in management account {aws.account}? [y/N]" in screen.getvalue()
    assert "nothing was created" in screen.getvalue()
    assert (terraform.calls("apply"), writes(aws)) == ([], [])


@pytest.mark.parametrize(
    ("actions", "given"),
    [(("delete",), "--yes"), (("delete", "create"), "--yes"), (("create", "delete"), "--dry-run")],
    ids=["delete", "replace", "dry-run"],
)
def test_plan_that_deletes_data_is_refused(
    aws: LocalAws, terraform: TerraformDouble, package: str, actions: tuple[str, ...], given: str, tmp_path: Path
) -> None:
    """This holds for a removed or replaced bucket, with --yes and in a dry run."""
    terraform.plan([change("aws_s3_bucket.exports", actions=actions), change("aws_sqs_queue.a", actions=actions)])
    result = tailpipe("deploy", "aws", given, *GIVEN, "--var", package, "--local-state", str(tmp_path / "state"))
    assert (result.exit_code, result.stdout, terraform.calls("apply")) == (1, "", [])
    assert "aws_s3_bucket.exports holds data and would be deleted" in stderr_of(result)
    assert "aws_sqs_queue.a holds data" not in stderr_of(result)


def test_deployment_without_a_terminal_needs_yes(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path
) -> None:
    """The plan is shown, and the exit code is 1."""
    bucket = change("aws_s3_bucket.exports", bucket=aws.deployment.bucket)
    terraform.plan([bucket, change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package, "--local-state", str(tmp_path / "state"))
    assert (result.exit_code, terraform.calls("apply"), writes(aws)) == (1, [], [])
    assert "1 to adopt, 1 to create" in stderr_of(result)
    assert "Add --yes" in stderr_of(result)


def test_missing_package_is_reported(aws: LocalAws, terraform: TerraformDouble) -> None:
    """Terraform is called only for its version."""
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", "package=gone.zip")
    assert (result.exit_code, [one.argv[0] for one in terraform.calls()]) == (1, ["version"])
    assert "package gone.zip: No such file" in stderr_of(result)


def test_missing_terraform_is_reported_before_any_call(
    aws: LocalAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither Terraform nor OpenTofu is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    result = tailpipe("deploy", "aws", "--yes", *GIVEN)
    assert (result.exit_code, aws.actions.calls()) == (1, [])
    assert "neither terraform nor tofu is on the PATH" in stderr_of(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "mars"),
        ("deploy", "aws", "--nonsense"),
        ("deploy", "aws", "--var-file", "gone.tfvars"),
        ("destroy",),
        ("destroy", "aws", "--delete-everything"),
        ("invoke", "aws", "extra"),
        ("doctor", "mars"),
        ("onboarding",),
    ],
)
def test_usage_error_exits_with_1(arguments: tuple[str, ...]) -> None:
    """Click's 2 means for `plan` that there is something to write."""
    result = tailpipe(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("typed", ["999988887777", ""])
def test_wrong_id_removes_nothing(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, typing: Typing, typed: str
) -> None:
    """It may be typed or given as an option."""
    terraform.hold(HELD)
    screen = typing(typed)
    assert destroy(AWS, Removal(), None, tmp_path / "state") == 1
    assert "Type the id of the management account" in screen.getvalue()
    assert destroy(AWS, Removal(), typed, tmp_path / "state") == 1
    assert (writes(aws), terraform.calls("apply"), terraform.held()) == ([], [], HELD)


def test_removal_without_a_terminal_needs_the_id_as_an_option(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """There is no --yes for a removal."""
    terraform.hold(HELD)
    result = tailpipe("destroy", "aws", "--local-state", str(tmp_path / "state"))
    assert (result.exit_code, writes(aws), terraform.held()) == (1, [], HELD)
    assert "Add --confirm with the id of the management account" in stderr_of(result)


def test_delete_data_without_delete_exports_is_refused(aws: LocalAws, terraform: TerraformDouble) -> None:
    """The exports would deliver to a missing destination."""
    result = tailpipe("destroy", "aws", "--delete-data", "--confirm", aws.account)
    assert (result.exit_code, aws.actions.calls(), terraform.calls()) == (1, [], [])
    assert "Add --delete-exports" in stderr_of(result)


def test_lost_state_is_reported_with_a_remedy(aws: LocalAws, terraform: TerraformDouble) -> None:
    """Nothing is removed; a new deployment adopts what exists."""
    result = tailpipe("destroy", "aws", "--confirm", aws.account)
    assert (result.exit_code, writes(aws), terraform.calls("init")) == (1, [], [])
    assert "tailpipe-exports deploy aws" in stderr_of(result)


def test_empty_state_of_an_existing_deployment_removes_nothing(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """The folder may be wrong or the state lost; not even the schedule is disabled."""
    terraform.hold([])
    result = tailpipe("destroy", "aws", "--confirm", aws.account, "--local-state", str(tmp_path / "other"))
    assert (result.exit_code, writes(aws), terraform.calls("apply")) == (1, [], [])
    assert "holds nothing of it" in stderr_of(result)
    assert "tailpipe-exports deploy aws" in stderr_of(result)


def test_native_deployment_is_refused_on_a_cloud_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The refusal needs neither Terraform nor a sign-in, and names the command that works."""
    cloud = replace(CLOUDS["gcp"], operator=lambda: cast(type[Operator], object))
    assert deploy(cloud, Wanted(engine=NATIVE)) == 1
    text = " ".join(capsys.readouterr().err.split())
    assert "deployments on GCP are made only with Terraform" in text
    assert "Leave out --with native: tailpipe-exports deploy gcp." in text
