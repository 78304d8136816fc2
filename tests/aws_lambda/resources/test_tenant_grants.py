"""The statement for tenants in the policy of the shared bucket, beside other writers of the policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aws_lambda.clients import RATES, Clients
from aws_lambda.errors import translate
from aws_lambda.resources.tenant_grants import TenantGrants
from aws_lambda.settings import read_settings
from shared.errors import NotUnderstood, Permanent
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from tests.aws_lambda.support import START, Lines

ACCOUNT = "111122223333"
OTHER = {"Sid": "Other", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*"}
SETTINGS = read_settings({"AWS_REGION": "eu-west-1"})


class Policy:
    """A bucket's policy: reads return `read`, which a write changes by `written`."""

    def __init__(self, text: str, written: Callable[[str], str] = lambda text: text) -> None:
        self.read, self._written = text, written
        self.writes: list[dict[str, Any]] = []

    def get_bucket_policy(self, **_: Any) -> dict[str, Any]:
        return {"Policy": self.read}

    def put_bucket_policy(self, **given: Any) -> None:
        self.writes.append(json.loads(given["Policy"]))
        self.read = self._written(given["Policy"])


def policy(*statements: Any) -> str:
    """Return a policy's text."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def grants(stored: Policy) -> TenantGrants:
    """Return what keeps the statement in this policy."""
    run = RunContext("aws", SETTINGS.engine, Lines(), VirtualClock(START), 60, RATES, translate, seed=1)
    return TenantGrants(SETTINGS, ACCOUNT, cast("Clients", SimpleNamespace(s3=stored)), run)


def test_statement_is_written_once_and_read_back() -> None:
    """A second call finds nothing to do; the change names the accounts."""
    stored = Policy(policy(OTHER))
    change = grants(stored).reconcile({"222233334444"})
    assert (change.added, change.removed) == (("222233334444",), ())
    assert [one["Sid"] for one in stored.writes[0]["Statement"]] == ["Other", "TailpipeTenantExports"]
    assert grants(stored).reconcile({"222233334444"}).added == ()
    assert len(stored.writes) == 1


def test_stale_read_after_the_write_is_no_contention() -> None:
    """S3 may still return the policy from before the write: the statement is not written again."""
    before = policy(OTHER)
    stored = Policy(before, lambda _: before)
    assert grants(stored).reconcile({"222233334444"}).added == ("222233334444",)
    assert len(stored.writes) == 1


def test_writer_that_drops_the_statement_each_time_is_reported() -> None:
    """After three writes the function stops, with the name of the call to look for."""
    counted = iter(range(10))
    stored = Policy(policy(OTHER), lambda _: policy({**OTHER, "Sid": f"Other{next(counted)}"}))
    with pytest.raises(Permanent, match="changed by others") as caught:
        grants(stored).reconcile({"222233334444"})
    assert len(stored.writes) == 3
    assert "PutBucketPolicy" in caught.value.remedy


def test_policy_without_another_statement_keeps_the_tls_statement() -> None:
    """S3 accepts no empty policy, and the function has no right to delete it."""
    stored = Policy(policy())
    grants(stored).reconcile({"222233334444"})
    grants(stored).reconcile(())
    assert [one["Sid"] for one in stored.writes[-1]["Statement"]] == ["TailpipeTlsOnly"]


def test_policy_that_is_not_understood_is_left_alone() -> None:
    """A truncated answer is not a policy without statements."""
    stored = Policy('{"Version": "2012-10-17", "State')
    with pytest.raises(NotUnderstood):
        grants(stored).reconcile({"222233334444"})
    assert stored.writes == []
