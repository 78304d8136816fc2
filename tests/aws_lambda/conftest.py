"""Fixtures: local AWS organizations in the states that most tests start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import local_aws, run


@pytest.fixture
def aws() -> Iterator[LocalAws]:
    """Return an organization of four accounts after a deployment and before the first run."""
    with local_aws() as cloud:
        yield cloud


@pytest.fixture
def covered(aws: LocalAws) -> LocalAws:
    """Return an organization in steady state: two runs have created everything, and data was delivered."""
    run(aws)
    aws.deliver()
    aws.advance(600)
    assert run(aws).report["status"] == "ok"
    aws.calls.clear()
    return aws
