"""A fresh project for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.state import Behavior
from tests.gcp_function.support import local_gcp, run


@pytest.fixture
def gcp() -> Iterator[LocalGcp]:
    """Return a project with three accounts as it is after a deployment, no run done yet."""
    with local_gcp() as cloud:
        yield cloud


@pytest.fixture
def covered(gcp: LocalGcp) -> LocalGcp:
    """Return a project that one run has brought to rest: every partition has its copy."""
    assert run(gcp).report["status"] == "ok"
    gcp.advance(600)
    gcp.clear_calls()
    return gcp


@pytest.fixture
def small_pages() -> Iterator[LocalGcp]:
    """Return a project whose listings come in pages of three."""
    with local_gcp(accounts=1, done=1, behavior=Behavior(page_size=3)) as cloud:
        yield cloud
