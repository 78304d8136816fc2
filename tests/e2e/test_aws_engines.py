"""The same life of a deployment by Terraform and by CloudFormation leaves the same live resources, rights and settings.

Both play it on a local AWS of their own: create, first run, damage, heal, update, drift, delete.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from cli.deployment.engine import ENGINES, NATIVE, TERRAFORM
from tests.cli.support.aws import built, stderr_of, tailpipe
from tests.e2e.aws_deployment import signed_in_organization, terraform_init
from tests.e2e.live_aws import Live, differences, live
from tests.e2e.test_aws_stack import drifted
from tests.infra.native_aws import given

INIT = terraform_init()
pytestmark = [pytest.mark.long, pytest.mark.slow]  # Terraform's provider waits a minute for S3
# Of the widest set of variables, what names a thing that the local AWS would have to have.
ELSEWHERE = ("include_ous", "kms_key_arn", "notify_secret")
SETS = {
    "defaults": {"environment": "prod"},
    "everything": {
        name: value
        for name, value in given("everything").items()
        if name not in (*ELSEWHERE, "external_id", "permissions_boundary_arn")
    },
}
STEPS = ("created", "healed", "updated", "deleted")
# What each engine needs for itself: Terraform's state, and the packages that CloudFormation reads.
OWN = r"tailpipe-(terraform|artifacts)-.*"
# Differences by kind and setting, as a pattern, with the reason.
ACCEPTED: dict[str, str] = {
    r"queue(@home)? MaximumMessageSize of .*: Terraform 262144, CloudFormation 1048576": (
        "the provider writes its own default in place of that of SQS; no event is larger than either"
    ),
}


@dataclass
class Life:
    """What the account contained after each step, and the result of each command."""

    live: dict[str, Live] = field(default_factory=dict)
    steps: dict[str, Result] = field(default_factory=dict)
    drift: dict[str, str] = field(default_factory=dict)


Lives = Mapping[str, Mapping[str, Life]]  # by set of variables and engine


def play(engine: str, values: dict[str, Any], folder: Path) -> Life:
    """Play the life of a deployment with an engine."""
    package = folder / "package.zip"
    package.write_bytes(built())
    made = Life()
    with signed_in_organization(folder, 2) as (cloud, patch):
        patch.setenv("TF_CLI_ARGS_init", INIT)
        name = values.get("function_name", "tailpipe-exports")
        everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}], "Version": "2012-10-17"}
        boundary = cloud.client("iam").create_policy(PolicyName="boundary", PolicyDocument=json.dumps(everything))
        bounded = {"permissions_boundary_arn": boundary["Policy"]["Arn"]} if "tags" in values else {}

        def deploy(*more: str, **changed: Any) -> Result:
            wanted = {**values, **bounded, **changed, "package": str(package)}
            texts = {key: one if isinstance(one, str) else json.dumps(one) for key, one in wanted.items()}
            pairs = (part for key, one in texts.items() for part in ("--var", f"{key}={one}"))
            return tailpipe("deploy", "aws", "--with", engine, *pairs, "--yes", *more)

        def keep(step: str, result: Result) -> None:
            made.steps[step], made.live[step] = result, live(cloud, OWN)

        keep("created", deploy())
        exports = cloud.client("bcm-data-exports")
        for one in exports.list_exports()["Exports"]:
            exports.delete_export(ExportArn=one["ExportArn"])
        cloud.client("s3").delete_bucket_policy(
            Bucket=values.get("bucket_name", f"tailpipe-dataexport-{cloud.account}")
        )
        keep("healed", tailpipe("invoke", "aws"))
        with zipfile.ZipFile(package, "a") as archive:
            archive.writestr(
                zipfile.ZipInfo("VERSION"), "next"
            )  # of no date, so that both engines get the same package
        keep("updated", deploy(log_retention_days=30))
        cloud.client("lambda").update_function_configuration(FunctionName=name, Timeout=60)
        if engine == NATIVE:
            made.drift = drifted(cloud, name)
        else:
            made.steps["drift"] = deploy("--dry-run", log_retention_days=30)
        keep("deleted", tailpipe("destroy", "aws", "--confirm", cloud.account))
    return made


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    """Play each set of variables with each engine once; the tests compare the steps."""
    return {
        name: {engine: play(engine, values, tmp_path_factory.mktemp(engine)) for engine in ENGINES}
        for name, values in SETS.items()
    }


def compared(lives: Lives, name: str, step: str) -> list[str]:
    """Return the differences after a step, accepted ones too."""
    one, two = (lives[name][engine].live[step] for engine in (TERRAFORM, NATIVE))
    return list(differences(one, two, ("Terraform", "CloudFormation")))


@pytest.mark.parametrize("name", SETS)
def test_each_step_succeeds(lives: Lives, name: str) -> None:
    """Otherwise nothing would be compared."""
    for engine, life in lives[name].items():
        assert {step: one.stderr for step, one in life.steps.items() if one.exit_code} == {}, engine
        assert len(life.live["created"]) > 40


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", SETS)
def test_both_engines_leave_the_same(lives: Lives, name: str, step: str) -> None:
    """The same resources with the same rights and settings, except for what is listed."""
    found = compared(lives, name, step)
    assert [one for one in found if not any(re.fullmatch(pattern, one) for pattern in ACCEPTED)] == []


@pytest.mark.parametrize("name", SETS)
def test_damage_is_healed_alike(lives: Lives, name: str) -> None:
    """After the repair, everything is as it was created; the update changes the functions and their logs alone."""
    for life in lives[name].values():
        assert list(differences(life.live["created"], life.live["healed"], ("before", "after"))) == []
        changed = differences(life.live["healed"], life.live["updated"], ("before", "after"))
        assert {one.split()[0] for one in changed} == {"function", "log"}


@pytest.mark.parametrize("name", SETS)
def test_drift_is_seen_by_both(lives: Lives, name: str) -> None:
    """A time limit that was changed by hand is the only drift."""
    assert lives[name][NATIVE].drift == {"Function": "MODIFIED"}
    assert "change 1 aws_lambda_function" in stderr_of(lives[name][TERRAFORM].steps["drift"])


def test_each_listed_difference_exists(lives: Lives) -> None:
    """A reason for a difference that has gone is out of date."""
    found = [one for name in SETS for step in STEPS for one in compared(lives, name, step)]
    assert [pattern for pattern in ACCEPTED if not any(re.fullmatch(pattern, one) for one in found)] == []
