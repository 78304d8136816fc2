"""Fixtures: a fresh local GCP project for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.state import Behavior
from tests.gcp_function.support import local_gcp, run


@pytest.fixture
def gcp() -> Iterator[LocalGcp]:
    """Return a newly deployed project with three accounts, before its first run."""
    with local_gcp() as cloud:
        yield cloud


@pytest.fixture
def covered(gcp: LocalGcp) -> LocalGcp:
    """Return a project after one successful run: every partition has a copy."""
    assert run(gcp).report["status"] == "ok"
    gcp.advance(600)
    gcp.clear_calls()
    return gcp


@pytest.fixture
def small_pages() -> Iterator[LocalGcp]:
    """Return a project whose listings have pages of three items."""
    with local_gcp(accounts=1, done=1, behavior=Behavior(page_size=3)) as cloud:
        yield cloud
