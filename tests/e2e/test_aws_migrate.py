"""A deployment that moves from Terraform to CloudFormation and back, on the local AWS, interrupted on each way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import Result

from cli.deployment.aws import backend
from cli.deployment.aws.stack import StackEngine
from cli.deployment.model import OperatorError, Problem
from localcloud.aws.cloud import LocalAws
from tests.cli.support.aws import built, stderr_of, tailpipe
from tests.e2e.aws_deployment import signed_in_organization, terraform_init
from tests.e2e.test_aws_stack import NAME, drifted, stack_status

INIT = terraform_init()
pytestmark = [pytest.mark.long, pytest.mark.slow]  # Terraform's provider waits a minute for S3
INTERRUPTED = OperatorError(Problem("interrupted by the test"))


@dataclass
class Scenario:
    """The result of each step by name, and what the cloud contained afterwards."""

    steps: dict[str, Result] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def identities(cloud: LocalAws) -> dict[str, Any]:
    """Return what a deletion and a new creation of a resource would change, and a delivered object."""
    bucket = f"tailpipe-dataexport-{cloud.account}"
    mappings = cloud.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    roles = cloud.client("iam").list_roles()["Roles"]
    return {
        "mappings": sorted(one["UUID"] for one in mappings),
        "roles": {one["RoleName"]: one["RoleId"] for one in roles if one["RoleName"].startswith("tailpipe")},
        "data": cloud.client("s3").get_object(Bucket=bucket, Key="dataexport/kept")["Body"].read(),
    }


def interrupted(*_arguments: Any) -> None:
    """End a step as a failure of the cloud would."""
    raise INTERRUPTED


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Play both moves once; the tests check their steps."""
    folder = tmp_path_factory.mktemp("moves")
    package = folder / "package.zip"
    package.write_bytes(built())
    given = ("--var", "environment=prod", "--var", f"package={package}", "--yes")
    with signed_in_organization(folder, 2) as (cloud, patch):
        patch.setenv("TF_CLI_ARGS_init", INIT)
        made = Scenario()
        steps, facts = made.steps, made.facts
        steps["deploy"] = tailpipe("deploy", "aws", *given)
        cloud.client("s3").put_object(
            Bucket=f"tailpipe-dataexport-{cloud.account}", Key="dataexport/kept", Body=b"cost data"
        )
        facts["before"] = identities(cloud)
        steps["native over Terraform"] = tailpipe("deploy", "aws", "--with", "native", *given)
        cloud.deny("cloudformation:ExecuteChangeSet")
        steps["refused"] = tailpipe("migrate", "aws", "--to", "native", *given)
        cloud.allow("cloudformation:ExecuteChangeSet")
        with pytest.MonkeyPatch.context() as failing:
            failing.setattr(backend, "empty", interrupted)
            steps["interrupted"] = tailpipe("migrate", "aws", "--to", "native", *given)
        steps["to native"] = tailpipe("migrate", "aws", "--to", "native", *given)
        facts["after to native"] = identities(cloud)
        facts["drift"] = drifted(cloud)
        steps["deploy native"] = tailpipe("deploy", "aws", "--with", "native", *given)
        with pytest.MonkeyPatch.context() as failing:
            failing.setattr(StackEngine, "disband", interrupted)
            steps["interrupted back"] = tailpipe("migrate", "aws", "--to", "terraform", *given)
        steps["to terraform"] = tailpipe("migrate", "aws", "--to", "terraform", *given)
        facts["after to terraform"] = identities(cloud)
        facts["stack"] = stack_status(cloud, NAME)
        steps["again"] = tailpipe("migrate", "aws", "--to", "terraform", *given)
    return made


def test_native_deployment_over_terraform_is_refused(scenario: Scenario) -> None:
    """The remedy is the move."""
    assert scenario.steps["deploy"].exit_code == 0, scenario.steps["deploy"].stderr
    result = scenario.steps["native over Terraform"]
    assert result.exit_code == 1
    assert "tailpipe-exports migrate aws --to native" in stderr_of(result)


def test_move_to_cloudformation_continues_after_interruptions(scenario: Scenario) -> None:
    """It is refused before the import and interrupted after it; then the same command completes it."""
    for name in ("refused", "interrupted"):
        assert scenario.steps[name].exit_code == 1
    moved = scenario.steps["to native"]
    assert moved.exit_code == 0, moved.stderr
    assert "Terraform's state is empty; a copy is in bucket" in stderr_of(moved)
    assert scenario.facts["after to native"] == scenario.facts["before"]


def test_what_terraform_made_equals_the_template(scenario: Scenario) -> None:
    """CloudFormation compares each property of the template with the live resources: rights, settings, shapes."""
    assert scenario.facts["drift"] == {}
    result = scenario.steps["deploy native"]
    assert result.exit_code == 0, result.stderr
    assert "nothing to change: the deployment matches the plan" in stderr_of(result)


def test_move_to_terraform_continues_after_an_interruption(scenario: Scenario) -> None:
    """The stack is deleted with everything retained; a second call has nothing to do."""
    assert scenario.steps["interrupted back"].exit_code == 1
    moved = scenario.steps["to terraform"]
    assert moved.exit_code == 0, moved.stderr
    assert scenario.facts["after to terraform"] == scenario.facts["before"]
    assert scenario.facts["stack"] == ""
    again = scenario.steps["again"]
    assert (again.exit_code, "is managed by Terraform already" in stderr_of(again)) == (0, True)
