"""Fixtures: a local AWS for each test, on a clock that the test advances."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START


@pytest.fixture
def cloud() -> Iterator[LocalAws]:
    """Return an organization of six accounts after a deployment, without empty pages."""
    with LocalAws(accounts=6, clock=VirtualClock(START), empty_pages_every=0) as opened:
        yield opened
