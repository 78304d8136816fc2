"""Azurite emulators that the tests of one process share, because starting one takes longer than most tests."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from localcloud.azure import cloud
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.services.blobs import Blobs
from shared.runtime.clock import Clock, SystemClock

# The storage accounts of each shared emulator. A test that needs more starts an emulator of its own.
ACCOUNTS = 2
CUSTOMERS = 3  # of those emulators that have accounts of customers' tenants
_idle: defaultdict[tuple[bool, bool], list[Azurite]] = defaultdict(list)
_start = cloud.start_azurite


def install() -> None:
    """Make every local Azure of this process use a shared emulator unless it is given one."""
    cloud.start_azurite = borrow


def borrow(storage_accounts: int = 1, clock: Clock | None = None, customers: int = 0) -> Azurite:
    """Return an empty emulator that is set to the clock's time; its `stop` returns it to the shared ones."""
    if storage_accounts > ACCOUNTS or customers > CUSTOMERS:
        return _start(storage_accounts, clock, customers)
    virtual = clock is not None and not isinstance(clock, SystemClock)
    idle = _idle[virtual, customers > 0]
    if not idle:
        started = _start(ACCOUNTS, clock, CUSTOMERS if customers else 0)
        started.stop = partial(idle.append, started)  # type: ignore[method-assign]  # returns it instead of stopping it
        return started
    azurite = idle.pop()
    if clock is not None and virtual:
        azurite.set_time(clock.now())
    blobs = Blobs(azurite.port, azurite.accounts)
    blobs.empty()
    blobs.close()
    return azurite


def close() -> None:
    """Stop all emulators that are not in use."""
    for azurites in _idle.values():
        while azurites:
            Azurite.stop(azurites.pop())
