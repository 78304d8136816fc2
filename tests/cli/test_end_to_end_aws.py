"""The installed command, the AWS CLI and a local AWS, each in a separate process."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import boto3
import pytest

from tests.cli.support.processes import AWS_CLI, TAILPIPE, LocalCloud, call, environment, local_aws
from tests.limits import HANG_S


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """Return a local organization of six accounts."""
    with local_aws("--accounts", "6") as running:
        yield running


def aws(variables: Mapping[str, str], *arguments: str) -> None:
    """Run the AWS CLI; fail the test if it fails."""
    answer = call([AWS_CLI, *arguments], variables)
    assert answer.returncode == 0, answer.stderr


def client(variables: Mapping[str, str], service: Literal["bcm-data-exports", "s3"]) -> Any:
    """Return a boto3 client with only the exported variables, which is faster than a process."""
    return boto3.Session(
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_REGION"],
    ).client(service, endpoint_url=variables["AWS_ENDPOINT_URL"])


def tailpipe(variables: Mapping[str, str], *arguments: str) -> tuple[int, Any]:
    """Run the tool with --json and return its exit code and its report."""
    answer = call([TAILPIPE, *arguments, "--json"], variables)
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)


@pytest.mark.slow
def test_run_repairs_damage_by_the_aws_cli(cloud: LocalCloud) -> None:
    """The AWS CLI has only the exported variables."""
    variables, bucket = cloud.variables, cloud.variables["BUCKET_NAME"]
    exports, s3 = client(variables, "bcm-data-exports"), client(variables, "s3")
    code, report = tailpipe(variables, "run", "aws", "--yes")
    assert (code, report["status"]) == (0, "ok")
    assert report["scopes"]["covered"] + report["scopes"]["pending"] == report["scopes"]["active"] == 6

    aws(variables, "organizations", "create-account", "--account-name", "seventh", "--email", "seventh@example.com")
    (export,) = exports.list_exports()["Exports"]
    aws(variables, "bcm-data-exports", "delete-export", "--export-arn", export["ExportArn"])
    aws(variables, "s3api", "delete-bucket-policy", "--bucket", bucket)

    code, report = tailpipe(variables, "plan", "aws")
    assert code == 2
    assert report["outcomes"]["CREATE"]["planned"] >= 1
    assert report["outcomes"]["REPAIR"]["planned"] >= 1
    assert exports.list_exports()["Exports"] == []

    code, report = tailpipe(variables, "run", "aws", "--yes")
    assert (code, report["status"]) == (0, "ok")
    assert report["scopes"]["covered"] + report["scopes"]["pending"] == report["scopes"]["active"] == 7
    (healed,) = exports.list_exports()["Exports"]
    assert healed["ExportName"] == "tailpipe-dataexport"
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert {"TailpipeTlsOnly", "TailpipeDataExports"} <= {statement["Sid"] for statement in policy["Statement"]}

    code, report = tailpipe(variables, "plan", "aws")
    assert code == 0
    assert not report["outcomes"].keys() & {"CREATE", "REPAIR", "ADOPT"}


def test_interrupted_run_exits_with_130() -> None:
    """No traceback is shown."""
    with local_aws("--accounts", "3", "--latency", "0.3") as slow:
        process = subprocess.Popen(
            [TAILPIPE, "run", "aws", "--yes"],
            env=environment(slow.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            assert process.stderr.readline()
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(HANG_S) == 130
    assert rest.endswith("interrupted\n")
    assert "Traceback" not in rest
