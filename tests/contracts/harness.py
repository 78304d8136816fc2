"""What a cloud's contract suite needs to be told about the cloud."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from shared.model import Key
from shared.provider import Provider
from shared.reconcile import RunResult, reconcile
from shared.request import parse_request
from shared.runtime.context import RunContext
from shared.state.store import StateStore


class CloudHarness(Protocol):
    """One cloud in the state after a deployment, with active scopes and no export yet."""

    def run(self) -> RunContext:
        """Return a new run against the cloud."""
        ...

    def cloud(self, run: RunContext) -> Provider:
        """Return the adapter under test."""
        ...

    def store(self, run: RunContext) -> StateStore:
        """Return the state store under test, over the same stored blob each time."""
        ...

    def forget(self) -> None:
        """Delete the stored state blob."""
        ...

    def delete(self, key: Key) -> None:
        """Delete a target behind the function's back; only ever asked for `export_key`."""
        ...

    def export_key(self) -> Key:
        """Return the key of one export that the function creates."""
        ...

    def exports(self) -> list[str]:
        """Return the names of all exports that really exist in the scope of `export_key`, repeated names and all."""
        ...

    def no_enumeration(self) -> AbstractContextManager[None]:
        """While it is open, the scopes may not be listed."""
        ...

    def no_reads(self) -> AbstractContextManager[None]:
        """While it is open, exports may be neither listed nor read."""
        ...

    def settle(self) -> None:
        """Let everything that was accepted come true."""
        ...


class StoreHarness(Protocol):
    """One empty state store."""

    def store(self) -> StateStore:
        """Return the store under test."""
        ...

    def stored(self, name: str) -> bytes:
        """Return what lies under a name that `set_aside`, `put` or `put_report` returned."""
        ...

    def forbid(self) -> AbstractContextManager[None]:
        """While it is open, neither reading nor writing is allowed."""
        ...


def finished(harness: CloudHarness, **request: object) -> RunResult:
    """Return one whole run of the engine."""
    run = harness.run()
    return reconcile(harness.cloud(run), harness.store(run), parse_request(request), run)
