"""A fresh organization for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import local_aws, run


@pytest.fixture
def aws() -> Iterator[LocalAws]:
    """Return an organization of four accounts as it is after a deployment, no run done yet."""
    with local_aws() as cloud:
        yield cloud


@pytest.fixture
def covered(aws: LocalAws) -> LocalAws:
    """Return an organization that two runs have brought to rest: everything is there, delivered and remembered."""
    run(aws)
    aws.deliver()
    aws.advance(600)
    assert run(aws).report["status"] == "ok"
    aws.calls.clear()
    return aws
