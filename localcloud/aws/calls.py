"""The call log of the local AWS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localcloud.aws.iam.required_actions import RequiredAction
from localcloud.common import call_log

# The error codes that services return to a caller without permission.
REFUSALS = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError"})


@dataclass(frozen=True)
class Call:
    """One answered request.

    `principal` is the ARN of the calling user or role, or the name of a service that called on its own behalf. `needs`
    are the required IAM actions, each with its resources; `error` is the error code of a refused request.
    """

    at: datetime
    account: str
    principal: str
    service: str
    operation: str
    needs: tuple[RequiredAction, ...]
    status: int
    error: str | None

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(need.action for need in self.needs)

    @property
    def resource(self) -> str:
        """Return the first resource of the operation's own action, `*` if it requires no action."""
        return self.needs[0].resources[0] if self.needs and self.needs[0].resources else "*"

    def as_json(self) -> dict[str, Any]:
        needs = [{"action": need.action, "resources": list(need.resources)} for need in self.needs]
        shown = {"at": self.at.isoformat(), "needs": needs, "actions": list(self.actions), "resource": self.resource}
        plain = ("account", "principal", "service", "operation", "status", "error")
        return shown | {name: getattr(self, name) for name in plain}


class CallLog(call_log.CallLog[Call]):
    """Calls by service, operation and account."""

    def select(
        self, service: str | None = None, operation: str | None = None, account: str | None = None
    ) -> list[Call]:
        """Return the matching calls."""
        return [
            call
            for call in self
            if (service is None or call.service == service)
            and (operation is None or call.operation == operation)
            and (account is None or call.account == account)
        ]

    def count(self, service: str | None = None, operation: str | None = None, account: str | None = None) -> int:
        """Return the number of calls that `select` returns."""
        return len(self.select(service, operation, account))

    def by_operation(self) -> dict[str, int]:
        """Return how often each `service:Operation` was called."""
        return self._counted(lambda call: f"{call.service}:{call.operation}")

    def actions(self) -> set[str]:
        """Return every IAM action that the calls so far required."""
        return {action for call in self for action in call.actions}

    def accesses(self, principal: str | None = None) -> list[tuple[str, str, str]]:
        """Return every (principal, action, resource) that was used, sorted; only those of `principal` if given."""
        return sorted(
            {
                (call.principal, need.action, resource)
                for call in self
                if call.error not in REFUSALS and principal in (None, call.principal)
                for need in call.needs
                for resource in need.resources
            }
        )
