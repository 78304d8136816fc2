"""Helpers of the operator commands' tests on AWS: an account, and calls of the tool."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from botocore.loaders import create_loader
from click.testing import CliRunner, Result

from aws_lambda.state_store import KEY
from cli.deployment.aws.operator import AwsOperator
from cli.local.aws import _package
from cli.main import main
from localcloud.aws.cloud import LocalAws
from shared.state.document import VERSION
from tests.canaries import EXTERNAL_ID

FUNCTION = "tailpipe-exports"
LOADER = cache(create_loader)
GIVEN = ("--var", "environment=prod")


@cache
def built() -> bytes:
    """Return the function's package for this machine's Python, built once."""
    return _package()


@contextmanager
def account(**options: Any) -> Iterator[LocalAws]:
    """Yield a local AWS, with the function of this checkout deployed unless `bare`."""
    package = None if options.get("bare") else built
    with LocalAws(package=package, **options) as cloud:
        yield cloud


def sign_in(cloud: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the local AWS's variables in this process, and no others of AWS or Terraform."""
    for name in os.environ:
        if name.startswith(("AWS_", "TF_VAR_")) and name not in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.delenv(name)
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TF_VAR_external_id", EXTERNAL_ID)
    # Loading AWS's service models takes longer than all calls, so these tests share them.
    monkeypatch.setattr("botocore.session.create_loader", LOADER)


def assume(cloud: LocalAws, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the session of a role in this process."""
    answer = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", answer["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", answer["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", answer["SessionToken"])


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def stderr_of(result: Result) -> str:
    """Return the tool's messages in one line."""
    return " ".join(result.stderr.split())


def at(sleep: Callable[[float], Any] = lambda _seconds: None, **given: Any) -> AwsOperator:
    """Open the account's deployment, with an operator that waits with `sleep`."""
    return AwsOperator.open(given, sleep=sleep)


def writes(cloud: LocalAws) -> list[str]:
    """Return the writing calls by operation."""
    reading = ("Get", "List", "Describe", "Head", "Simulate", "Invoke", "Assume")
    return [one["operation"] for one in cloud.actions.calls() if not one["operation"].startswith(reading)]


def hold(cloud: LocalAws, minutes: float, run: str = "20260101T000000Z-aaaaaaaa") -> None:
    """Add a lock of another run to the state, for a number of minutes."""
    since, until = (datetime.now(UTC) + timedelta(minutes=more) for more in (min(minutes, 0) - 1, minutes))
    running = {"run_id": run, "since": since.isoformat(), "until": until.isoformat()}
    document = {"version": VERSION, "cloud": "aws", "running": running}
    cloud.client("s3").put_object(Bucket=cloud.deployment.bucket, Key=KEY, Body=json.dumps(document).encode())


def release(cloud: LocalAws) -> None:
    """Remove the lock of the other run."""
    cloud.client("s3").delete_object(Bucket=cloud.deployment.bucket, Key=KEY)
