"""What deploy and destroy show before they act: permissions, alarms, and what is deleted or kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.deployment.aws.session import Aws
from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import run
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import GIVEN, account, sign_in, stderr_of, tailpipe, writes
from tests.cli.support.operating import DATA, HELD, IDENTITY, package, terraform
from tests.cli.support.terraform_double import TerraformDouble, change

__all__ = ["package", "terraform"]  # fixtures, which pytest finds by name


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalAws]:
    """Return a deployment that no test here changes, after one run of the function."""
    with account(accounts=2) as cloud:
        run(cloud)
        yield cloud


@pytest.fixture
def aws(lasting: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """Return that deployment, signed in."""
    sign_in(lasting, monkeypatch)
    lasting.clear_calls()
    return lasting


ALARMS = [change(f'aws_cloudwatch_metric_alarm.this["{one}"]', alarm_name=f"tailpipe-new-{one}") for one in range(4)]


@pytest.mark.parametrize(
    ("given", "emails"),
    [
        ((), None),
        (("--var", "notification_emails=[]"), []),
        (("--alarm-email", "a@example.com"), ["a@example.com"]),
        (
            ("--var", 'notification_emails=["b@example.com"]', "--alarm-email", "a@example.com"),
            ["b@example.com", "a@example.com"],
        ),
    ],
    ids=["nobody", "none-on-purpose", "option", "option-and-variable"],
)
def test_alarms_without_a_receiver_are_a_warning_with_their_number(
    aws: LocalAws, terraform: TerraformDouble, package: str, given: tuple[str, ...], emails: list[str] | None
) -> None:
    """Without a terminal there is no prompt; new and existing alarms count."""
    terraform.plan([*ALARMS, change("aws_cloudwatch_metric_alarm.old", actions=("delete",))])
    terraform.hold(['aws_cloudwatch_metric_alarm.this["0"]'])
    result = tailpipe("deploy", "aws", "--dry-run", *GIVEN, "--var", package, *given)
    assert result.exit_code == 0, result.stderr
    assert terraform.calls("plan")[0].values.get("notification_emails") == emails
    warned = "Warning: the 4 alarms of this deployment notify no one." in stderr_of(result)
    assert warned == (not emails)
    assert (f"4 alarms notify {', '.join(emails or ())}" in stderr_of(result)) == bool(emails)


def test_plan_lists_only_the_permissions_of_this_deployment(
    aws: LocalAws, terraform: TerraformDouble, package: str
) -> None:
    """Permissions of an option that is off are not listed."""
    terraform.plan(ALARMS)
    terraform.document({"function": ["SeeAccounts", "KeepState"], "connector": ["ReadExports"]})
    text = stderr_of(tailpipe("deploy", "aws", "--dry-run", *GIVEN, "--var", package))
    assert "organizations:DescribeOrganization" in text
    for absent in ("kms:Decrypt", "sustainability:", "cloudwatch:GetMetricStatistics", "only with"):
        assert absent not in text


@pytest.mark.parametrize("version", ["2.0", "0.1", "", "99"])
def test_plan_with_another_format_version_is_refused(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, version: str
) -> None:
    """A future Terraform may write plans with another meaning."""
    terraform.plan(ALARMS)
    terraform.document(version=version)
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package, "--local-state", str(tmp_path))
    assert (result.exit_code, terraform.calls("apply")) == (1, [])
    assert f"the plan is in format {version or 'unknown'}, and this command reads 1.x" in stderr_of(result)


@pytest.mark.parametrize("verb", ["plan", "show", "apply"])
def test_secret_in_a_terraform_error_is_redacted(
    aws: LocalAws, terraform: TerraformDouble, package: str, tmp_path: Path, verb: str
) -> None:
    """A provider's error may contain the value of a secret variable."""
    terraform.plan(ALARMS)
    quoted = f"Error: no role for {EXTERNAL_ID}"
    diagnostic = {"severity": "error", "summary": quoted}
    line = json.dumps({"type": "diagnostic", "diagnostic": diagnostic})
    terraform.answer(verb, out=line + "\n" if verb == "apply" else "", err="" if verb == "apply" else quoted, code=1)
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, "--var", package, "--local-state", str(tmp_path))
    assert result.exit_code == 1
    assert "no role for …" in stderr_of(result)
    assert EXTERNAL_ID not in result.output


@pytest.mark.parametrize(
    ("flags", "kept"),
    [((), DATA), (("--keep-identity",), DATA | IDENTITY), (("--delete-exports", "--delete-data"), set())],
    ids=["default", "keep-identity", "everything"],
)
def test_dry_run_of_a_removal_lists_what_is_deleted_and_kept(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, flags: tuple[str, ...], kept: set[str]
) -> None:
    """There is no prompt, nothing changes, and the exit code is 2."""
    terraform.hold([*HELD, "data.aws_region.current"])
    state = tmp_path / "state"
    result = tailpipe("destroy", "aws", *flags, "--dry-run", "--local-state", str(state))
    assert result.exit_code == 2, result.stderr
    assert (writes(aws), terraform.calls("apply"), terraform.calls("state", "rm")) == ([], [], [])
    assert (terraform.held(), state.exists()) == ([*HELD, "data.aws_region.current"], False)
    text = stderr_of(result)
    assert f"{len(HELD) - len(kept)} to remove" in text
    for address in HELD:
        type_ = address.partition(".")[0]
        assert (f"{type_}: " in text) == any(one.startswith(f"{type_}.") and one not in kept for one in HELD)
    everything = "--delete-data" in flags
    assert (f"to be removed: all data in bucket {aws.deployment.bucket}" in text) == everything
    assert (f"to be kept: bucket {aws.deployment.bucket} with its data" in text) == (not everything)
    assert ("to be removed: 1 export: tailpipe-dataexport" in text) == everything
    assert ("to be kept: 1 export, left delivering: tailpipe-dataexport" in text) == (not everything)
    assert ("to be removed: the member role in 1 account" in text) == ("--keep-identity" not in flags)
    assert "nothing was removed: this was a dry run" in text


@pytest.mark.parametrize("command", ["onboarding", "destroy", "preview"])
def test_unreadable_settings_stop_the_command(
    aws: LocalAws, terraform: TerraformDouble, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda hides variables whose key is unavailable; defaults would name another bucket."""

    def hidden(answer: dict[str, Any]) -> dict[str, Any]:
        error = {"ErrorCode": "AccessDeniedException", "Message": "Lambda was unable to decrypt"}
        return {**answer, "Environment": {"Error": error}}

    real = Aws.client

    def client(self: Aws, service: str, region: str | None = None) -> Any:
        found = real(self, service, region)
        if service == "lambda":
            read = type(found).get_function_configuration
            monkeypatch.setattr(found, "get_function_configuration", lambda **given: hidden(read(found, **given)))
        return found

    monkeypatch.setattr(Aws, "client", client)
    terraform.hold(HELD)
    state = ("--local-state", str(tmp_path / "state"))
    arguments = {
        "onboarding": ("onboarding", "aws"),
        "destroy": ("destroy", "aws", "--delete-exports", "--delete-data", "--confirm", aws.account, *state),
        "preview": ("destroy", "aws", "--delete-exports", "--delete-data", "--dry-run", *state),
    }[command]
    result = tailpipe(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "settings of function tailpipe-exports cannot be read: Lambda was unable to decrypt" in stderr_of(result)
    assert "Grant kms:Decrypt" in stderr_of(result)
    assert (aws.exports() != {}, terraform.calls("apply"), writes(aws)) == (True, [], [])
