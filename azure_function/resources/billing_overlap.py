"""Keeps a subscription from being exported a second time where a billing scope's export may hold its costs."""

from __future__ import annotations

from collections.abc import Sequence

from azure_function.scopes import Scopes
from azure_function.targets import BACKFILL, EXPORT
from shared.model import Key, Target, Unknown
from shared.provider import KnownStates

BILLING_HIDDEN = Unknown(
    "billing-unseen",
    "whether a billing scope's export holds its costs could not be seen in this run",
    remedy="Nothing at first: the next run looks again. If it stays, see what the report says of the billing scopes.",
)


class BillingOverlap:
    """Knows which subscriptions may be part of a billing scope that this run could not list."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes
        self._billed = False  # whether earlier runs know an export of a billing scope

    def remember(self, known: KnownStates) -> None:
        """Take over from earlier runs whether a billing scope has an export."""
        self._billed = any(
            state.present and key.scope.startswith("/")
            for kind in (EXPORT, BACKFILL)
            for key, state in known.states_of(kind.name)
        )

    def hidden(self, targets: Sequence[Target]) -> dict[Key, Unknown]:
        """Return the observation of the targets whose costs a billing scope's export may hold.

        Without it, one failed listing of billing scopes would have every subscription exported a second time.
        """
        if not (self._billed and self._scopes.billing_unseen):
            return {}
        return {one.key: BILLING_HIDDEN for one in targets if not one.key.scope.startswith("/") and not _is_known(one)}


def _is_known(target: Target) -> bool:
    return target.state is not None and bool(target.state.present)
