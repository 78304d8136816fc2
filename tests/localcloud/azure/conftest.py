"""Fixtures: a local Azure on a virtual clock, and the SDK's clients for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from shared.runtime.clock import VirtualClock
from tests.localcloud.azure.helpers import Sdk


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock at midnight UTC on Monday, 5 January 2026, that the test advances."""
    return VirtualClock()


@pytest.fixture
def azure(clock: VirtualClock, azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a deployed tenant with three subscriptions under an enterprise agreement."""
    with LocalAzure(clock=clock, azurite=azurite) as cloud:
        yield cloud


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Close what a test opens, after the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sdk(azure: LocalAzure, closing: ExitStack) -> Sdk:
    """Return the SDK's clients with the function's identity."""
    return Sdk(azure, closing)
