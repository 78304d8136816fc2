"""IAM's policy simulator: what a principal's policies would decide, without doing it.

Source: SimulatePrincipalPolicy in the IAM API Reference. Without resources it asks for the resource ``*``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.faults import Faults
from localcloud.aws.iam.caller import Caller, Handler, Identity
from localcloud.aws.iam.enforcement import Enforcement


class Simulator:
    """Decides by the same judge as real calls, and by what was denied on this local cloud."""

    def __init__(self, enforcement: Enforcement, faults: Faults) -> None:
        self._enforcement = enforcement
        self._faults = faults
        self.operations: dict[str, Handler] = {"SimulatePrincipalPolicy": self._simulate}

    def _simulate(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        source = str(params["PolicySourceArn"])
        fields = source.split(":", 5)
        if len(fields) < 6 or fields[4] != caller.account:
            raise AwsError("NoSuchEntity", f"The entity {source} cannot be found.", 404)
        # Only a session of a role is held to policies here, so a role is judged as if it had one.
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
