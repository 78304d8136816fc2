"""Billing accounts of another organization or tenant, which are visible to the function but not served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcp_function.scopes import Scopes
from gcp_function.targets import ACCOUNT
from shared.model import Key, Observation, Target
from shared.resources import BulkOnly, ReadOnly


class OutsideAccounts(BulkOnly, ReadOnly):
    """Explains, for each account of another organization or tenant, why it is not served."""

    kinds = (ACCOUNT,)

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Return the reasons, from the enumeration: no call."""
        return {target.key: self._scopes.outside(target.key.scope) for target in targets}
