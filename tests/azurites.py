"""Azurites that the tests of one process take in turns: to start one takes a second, and most tests less."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from localcloud.azure import cloud
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.services.blobs import Blobs
from shared.runtime.clock import Clock, SystemClock

# How many destinations most tenants of the tests have at most; who wants more gets an emulator of its own.
ACCOUNTS = 2
_idle: defaultdict[bool, list[Azurite]] = defaultdict(list)
_start = cloud.start_azurite


def install() -> None:
    """Let every local Azure of this process that brings no Azurite take one of these."""
    cloud.start_azurite = lent


def lent(storage_accounts: int = 1, clock: Clock | None = None) -> Azurite:
    """Return an emulator that is empty and shows the clock's time; to stop it gives it back."""
    if storage_accounts > ACCOUNTS:
        return _start(storage_accounts, clock)
    virtual = clock is not None and not isinstance(clock, SystemClock)
    if not _idle[virtual]:
        started = _start(ACCOUNTS, clock)
        started.stop = partial(_idle[virtual].append, started)  # type: ignore[method-assign]  # its only way back
        return started
    azurite = _idle[virtual].pop()
    if clock is not None and virtual:
        azurite.set_time(clock.now())
    blobs = Blobs(azurite.port, azurite.accounts)
    blobs.empty()
    blobs.close()
    return azurite


def close() -> None:
    """End those that nobody has."""
    for azurites in _idle.values():
        while azurites:
            Azurite.stop(azurites.pop())
