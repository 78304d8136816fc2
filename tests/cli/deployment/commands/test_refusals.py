"""deploy and destroy where they do not go on: nothing is made, nothing is removed, and the way out is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.clouds import CLOUDS
from cli.deployment.commands.deploy import Wanted, deploy
from cli.deployment.commands.destroy import destroy
from cli.deployment.model import Removal
from localcloud.aws.cloud import LocalAws
from tests.cli.support.aws import GIVEN, account, sign_in, stderr_of, tailpipe, writes
from tests.cli.support.operating import HELD, Typing, package, terraform, typing
from tests.cli.support.terraform_double import TerraformDouble, change

AWS = CLOUDS["aws"]
__all__ = ["package", "terraform", "typing"]  # fixtures, found by their names


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalAws]:
    """Return a deployment that no test here changes."""
    with account(accounts=2) as cloud:
        yield cloud


@pytest.fixture
def aws(lasting: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """Return that deployment, signed in to."""
    sign_in(lasting, monkeypatch)
    lasting.clear_calls()
    return lasting


@pytest.mark.parametrize("answer", ["n", "", "yep"])
def test_only_a_yes_is_a_yes(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, typing: Typing, answer: str
) -> None:
    """Asked on a terminal, with the place in the question, anything else makes nothing."""
    terraform.plan([change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    screen = typing(answer)
    pairs = ["environment=prod", "notification_emails=[]", package]
    assert deploy(AWS, Wanted(pairs, local_state=tmp_path / "state")) == 1
    assert f"Make these changes in management account {aws.account}? [y/N]" in screen.getvalue()
    assert "nothing was made" in screen.getvalue()
    assert (terraform.calls("apply"), writes(aws)) == ([], [])


@pytest.mark.parametrize(
    ("actions", "given"),
    [(("delete",), "--yes"), (("delete", "create"), "--yes"), (("create", "delete"), "--dry-run")],
    ids=["delete", "replace", "dry-run"],
)
def test_a_plan_that_would_delete_data_is_refused(
    aws: LocalAws, terraform: TerraformDouble, package: str, actions: tuple[str, ...], given: str, tmp_path: Path
) -> None:
    """A bucket that is removed or replaced stops the deployment, also with --yes; the dry run says so as well."""
    terraform.plan([change("aws_s3_bucket.exports", actions=actions), change("aws_sqs_queue.a", actions=actions)])
    result = tailpipe("deploy", "aws", given, *GIVEN, "--var", package, "--local-state", str(tmp_path / "state"))
    assert (result.exit_code, result.stdout, terraform.calls("apply")) == (1, "", [])
    assert "aws_s3_bucket.exports holds data and would be deleted" in stderr_of(result)
    assert "aws_sqs_queue.a holds data" not in stderr_of(result)


def test_without_a_terminal_and_without_yes_nothing_is_made(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path
) -> None:
    """The plan is shown without a terminal to ask on: 1, and what to add."""
    bucket = change("aws_s3_bucket.exports", bucket=aws.deployment.bucket)
    terraform.plan([bucket, change("aws_sqs_queue.new", name="tailpipe-exports-new")])
    result = tailpipe("deploy", "aws", *GIVEN, "--var", package, "--local-state", str(tmp_path / "state"))
    assert (result.exit_code, terraform.calls("apply"), writes(aws)) == (1, [], [])
    assert "1 to adopt, 1 to create" in stderr_of(result)
    assert "Add --yes" in stderr_of(result)


def test_a_package_that_is_not_there_is_reported(aws: LocalAws, terraform: TerraformDouble) -> None:
    """The file is named, and Terraform is asked for its version alone."""
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", "package=gone.zip")
    assert (result.exit_code, [one.argv[0] for one in terraform.calls()]) == (1, ["version"])
    assert "package gone.zip: No such file" in stderr_of(result)


def test_without_terraform_the_cloud_is_not_even_asked(
    aws: LocalAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither binary: reported at once, before any check."""
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
def test_a_fault_of_use_ends_with_1(arguments: tuple[str, ...]) -> None:
    """Never with click's 2, which in `plan` means that there is something to write."""
    result = tailpipe(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("typed", ["999988887777", ""])
def test_another_id_removes_nothing(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, typing: Typing, typed: str
) -> None:
    """Typed or given, any other answer than the account's id leaves everything as it is."""
    terraform.hold(HELD)
    screen = typing(typed)
    assert destroy(AWS, Removal(), None, tmp_path / "state") == 1
    assert "Type the id of the management account" in screen.getvalue()
    assert destroy(AWS, Removal(), typed, tmp_path / "state") == 1
    assert (writes(aws), terraform.calls("apply"), terraform.held()) == ([], [], HELD)


def test_without_a_terminal_the_id_is_asked_for_as_an_option(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """There is no --yes for a removal: the id has to be written out."""
    terraform.hold(HELD)
    result = tailpipe("destroy", "aws", "--local-state", str(tmp_path / "state"))
    assert (result.exit_code, writes(aws), terraform.held()) == (1, [], HELD)
    assert "Add --confirm with the id of the management account" in stderr_of(result)


def test_data_is_not_deleted_under_exports_that_stay(aws: LocalAws, terraform: TerraformDouble) -> None:
    """--delete-data alone would leave exports that deliver to nowhere: refused before anything is looked at."""
    result = tailpipe("destroy", "aws", "--delete-data", "--confirm", aws.account)
    assert (result.exit_code, aws.actions.calls(), terraform.calls()) == (1, [], [])
    assert "Add --delete-exports" in stderr_of(result)


def test_a_lost_state_is_reported_with_the_way_back(aws: LocalAws, terraform: TerraformDouble) -> None:
    """Without the state's bucket nothing is removed, and a deployment, which adopts, is named as the way."""
    result = tailpipe("destroy", "aws", "--confirm", aws.account)
    assert (result.exit_code, writes(aws), terraform.calls("init")) == (1, [], [])
    assert "tailpipe-exports deploy aws" in stderr_of(result)


def test_an_empty_state_beside_a_deployment_removes_nothing(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """A wrong folder, or a state that is lost: not even the schedule is stopped, and the way back is reported."""
    terraform.hold([])
    result = tailpipe("destroy", "aws", "--confirm", aws.account, "--local-state", str(tmp_path / "other"))
    assert (result.exit_code, writes(aws), terraform.calls("apply")) == (1, [], [])
    assert "holds nothing of it" in stderr_of(result)
    assert "tailpipe-exports deploy aws" in stderr_of(result)
