"""The ports through which a contract suite controls one cloud or one store."""

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
        """Return the context of a new run against the cloud."""
        ...

    def cloud(self, run: RunContext) -> Provider:
        """Return the adapter under test."""
        ...

    def store(self, run: RunContext) -> StateStore:
        """Return the state store under test; every call uses the same stored object."""
        ...

    def delete_state(self) -> None:
        """Delete the stored state."""
        ...

    def delete(self, key: Key) -> None:
        """Delete a target without the function; only called with `export_key`."""
        ...

    def export_key(self) -> Key:
        """Return the key of one export that the function creates."""
        ...

    def exports(self) -> list[str]:
        """Return the names of all existing exports in the scope of `export_key`, including duplicates."""
        ...

    def enumeration_denied(self) -> AbstractContextManager[None]:
        """Deny the listing of scopes within the context."""
        ...

    def reads_denied(self) -> AbstractContextManager[None]:
        """Deny listing and reading exports within the context."""
        ...

    def settle(self) -> None:
        """Let all accepted changes become visible."""
        ...


class StoreHarness(Protocol):
    """One empty state store."""

    def store(self) -> StateStore:
        """Return the store under test."""
        ...

    def stored(self, name: str) -> bytes:
        """Return the content of an object whose name `set_aside`, `put` or `put_report` returned."""
        ...

    def denied(self) -> AbstractContextManager[None]:
        """Deny reading and writing within the context."""
        ...


def run_once(harness: CloudHarness, **request: object) -> RunResult:
    """Run the engine once and return the result."""
    run = harness.run()
    return reconcile(harness.cloud(run), harness.store(run), parse_request(request), run)
