"""IAM's policy simulator: whether a principal's policies allow actions.

Source: SimulatePrincipalPolicy in the IAM API Reference. The default resource is ``*``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.faults import Faults
from localcloud.aws.iam.caller import Caller, Handler, Identity
from localcloud.aws.iam.enforcement import Enforcement


class Simulator:
    """Simulates with the enforcement of real calls and the denials injected into this local cloud."""

    def __init__(self, enforcement: Enforcement, faults: Faults) -> None:
        self._enforcement = enforcement
        self._faults = faults
        self.operations: dict[str, Handler] = {"SimulatePrincipalPolicy": self._simulate}

    def _simulate(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        source = str(params["PolicySourceArn"])
        fields = source.split(":", 5)
        if len(fields) < 6 or fields[4] != caller.account:
            raise AwsError("NoSuchEntity", f"The entity {source} cannot be found.", 404)
        # Policies are enforced only on role sessions, so a role is evaluated as if it had one.
        session = SimpleNamespace(arn=source, policy=None) if fields[5].startswith("role/") else None
        identity = Identity(caller.account, source, session)
        results = [
            self._result(identity, str(action), str(resource))
            for action in params["ActionNames"]
            for resource in params.get("ResourceArns") or ["*"]
        ]
        return {"EvaluationResults": results, "IsTruncated": False}

    def _result(self, identity: Identity, action: str, resource: str) -> dict[str, Any]:
        if self._faults.denies(action, resource, identity.account):
            decision = "explicitDeny"
        else:
            allowed = self._enforcement.allows(identity, action, resource, {})
            decision = "allowed" if allowed else "implicitDeny"
        return {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision}
