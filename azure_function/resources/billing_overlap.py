"""Prevents a second export of a subscription whose costs may already be in the export of a billing scope."""

from __future__ import annotations

from collections.abc import Sequence

from azure_function.scopes import Scopes
from azure_function.targets import BACKFILL, EXPORT
from shared.model import Key, Target, Unknown
from shared.provider import KnownStates

BILLING_HIDDEN = Unknown(
    "billing-unseen",
    "this run could not determine whether the export of a billing scope contains its costs",
    remedy="Nothing at first: the next run checks again. If it persists, see the report's failures of billing scopes.",
)


class BillingOverlap:
    """Finds the subscriptions that may belong to a billing scope that this run could not list."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes
        self._billed = False  # whether the state has an export of a billing scope

    def remember(self, known: KnownStates) -> None:
        """Load from the state whether a billing scope has an export."""
        self._billed = any(
            state.present and key.scope.startswith("/")
            for kind in (EXPORT, BACKFILL)
            for key, state in known.states_of(kind.name)
        )

    def hidden(self, targets: Sequence[Target]) -> dict[Key, Unknown]:
        """Return an Unknown for each target whose costs may be in the export of a billing scope.

        Otherwise a failed listing of the billing scopes would lead to a second export of every subscription.
        """
        if not (self._billed and self._scopes.billing_unseen):
            return {}
        return {
            target.key: BILLING_HIDDEN
            for target in targets
            if not target.key.scope.startswith("/") and not _is_known(target)
        }


def _is_known(target: Target) -> bool:
    return target.state is not None and bool(target.state.present)
