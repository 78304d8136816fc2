"""The webhook's secret as a cloud stores it, remembered for as long as an instance of the function lives."""

from __future__ import annotations

from abc import ABC, abstractmethod

from shared.errors import Denied, NotFound, Permanent

REMEDY = "Store the webhook's address in this secret, as text and enabled, or deploy with another one."


class StoredSecret(ABC):
    """The secret that NOTIFY_URL refers to; `known` holds those that were read, by reference, between invocations.

    Each cloud defines how the secret is read (`_fetch`) and the remedy if access is denied (`grant`).
    """

    grant: str

    def __init__(self, reference: str, known: dict[str, str]) -> None:
        self._reference = reference
        self._known = known

    def read(self, again: bool) -> str:
        """Return the remembered text, or with `again` read the secret from the cloud. Raises ReportedError."""
        if again or self._reference not in self._known:
            try:
                self._known[self._reference] = self._fetch()
            except Denied as denied:
                reason = f"access to the secret in NOTIFY_URL was denied: {denied.message}"
                raise Denied(denied.code, reason, self.grant) from denied
            except (NotFound, Permanent) as error:
                reason = f"the secret in NOTIFY_URL cannot be read: {error.message}"
                raise Permanent("notify-secret", reason, REMEDY) from error
        return self._known[self._reference]

    @abstractmethod
    def _fetch(self) -> str:
        """Return the current text from the cloud. Raises ReportedError."""
