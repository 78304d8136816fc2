"""Authorize role sessions: moto's IAM evaluates the policies after this module simplifies their statements.

moto's evaluator denies everything if an Allow has an unmet condition, ignores NotResource, and treats the dots and
question marks of a pattern as regular expression syntax. Statements are therefore rewritten to an equivalent that
moto evaluates as IAM does: conditions are resolved and removed, variables substituted, and patterns escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.iam.models import iam_backends

from localcloud.aws.errors import denied
from localcloud.aws.faults import Attempt
from localcloud.aws.iam.caller import Identity
from localcloud.aws.iam.policy import conditions_hold, many, matches_any, substituted
from localcloud.aws.iam.required_actions import RequiredAction
from localcloud.aws.services.buckets import Buckets

# A deleted boundary, or an AWS managed one that moto has not loaded, allows nothing.
_NOTHING = json.dumps({"Version": "2012-10-17", "Statement": []})


# difference: AWS-5
class Enforcement:
    """Refuses what a role's inline policies, attached policies, boundary and session policy do not allow.

    Account credentials and IAM users may do everything. `on` turns enforcement on and off.
    """

    def __init__(self, partition: str, buckets: Buckets) -> None:
        self._partition = partition
        self._buckets = buckets
        self.on = True

    def check(self, attempt: Attempt) -> None:
        """Raise the service's access-denied AwsError for the first required action that is not allowed."""
        if not self.on or attempt.identity.session is None:
            return
        for need in attempt.needs:
            refused = self._refused(attempt.identity, need, attempt.context)
            if refused is not None:
                resource, because = refused
                raise denied(attempt.service, attempt.identity.arn, need.action, resource, because)

    def allows(self, identity: Identity, action: str, resource: str, context: dict[str, str]) -> bool:
        """Return whether an identity may perform an action on a resource."""
        if not self.on or identity.session is None:
            return True
        return self._refused(identity, RequiredAction(action, (resource,)), context) is None

    def _refused(self, identity: Identity, need: RequiredAction, context: dict[str, str]) -> tuple[str, str] | None:
        role = self._role(identity)
        if role is None:
            return need.resources[0], "because the role no longer exists"
        layers = [("identity-based policy", list(self._granted(role)))]
        if role.permissions_boundary_arn:
            layers.append(("permissions boundary", [self._boundary(str(role.permissions_boundary_arn))]))
        if identity.session.policy:
            layers.append(("session policy", [str(identity.session.policy)]))
        for resource in need.resources:
            keys = {**context, "aws:resourceaccount": self._owner(resource) or identity.account}
            for layer, documents in layers:
                verdicts = [_evaluate(document, need.action, resource, keys) for document in documents]
                if PermissionResult.DENIED in verdicts:
                    return resource, f"with an explicit deny in an {layer}"
                if PermissionResult.PERMITTED not in verdicts:
                    return resource, f"because no {layer} allows the {need.action} action"
        return None

    def _owner(self, arn: str) -> str:
        """Return the account that owns a resource. A bucket's ARN does not contain it, so it is looked up."""
        fields = arn.split(":", 5)
        if len(fields) < 6 or fields[2] != "s3":
            return fields[4] if len(fields) == 6 else ""
        return self._buckets.owner(fields[5].partition("/")[0]) or ""

    def _role(self, identity: Identity) -> Any:
        roles = iam_backends[identity.account][self._partition].get_roles()
        return next((role for role in roles if role.arn == identity.principal), None)

    def _granted(self, role: Any) -> Iterator[str]:
        for document in role.policies.values():
            yield document if isinstance(document, str) else json.dumps(document)
        for policy in role.managed_policies.values():
            yield _default(policy)

    def _boundary(self, arn: str) -> str:
        account = arn.split(":")[4]
        policy = iam_backends[account][self._partition].managed_policies.get(arn) if account.isdigit() else None
        return _NOTHING if policy is None else _default(policy)


def _default(policy: Any) -> str:
    return next((str(one.document) for one in policy.versions if one.is_default), _NOTHING)


def _evaluate(document: str, action: str, resource: str, context: dict[str, str]) -> PermissionResult:
    statements = [
        simplified
        for statement in many(json.loads(document).get("Statement", []))
        if (simplified := _simplified(statement, resource, context)) is not None
    ]
    # IAM compares actions case-insensitively, moto case-sensitively.
    return IAMPolicy(json.dumps({"Statement": statements})).is_action_permitted(action.lower(), resource)


def _simplified(statement: dict[str, Any], resource: str, context: dict[str, str]) -> dict[str, Any] | None:
    """Return the statement without conditions, NotResource and variables, or None if it does not apply."""
    conditions = {
        operator: {key: [substituted(str(one), context) for one in many(values)] for key, values in keys.items()}
        for operator, keys in statement.get("Condition", {}).items()
    }
    if not conditions_hold({"Condition": conditions}, context, unknown=statement.get("Effect") == "Deny"):
        return None
    simplified: dict[str, Any] = {"Effect": statement["Effect"]}
    if "NotResource" in statement:
        excluded = [substituted(str(one), context) for one in many(statement["NotResource"])]
        if matches_any(resource, excluded):
            return None
        simplified["Resource"] = ["*"]
    else:
        simplified["Resource"] = [
            _escaped(substituted(str(one), context)) for one in many(statement.get("Resource", []))
        ]
    key = "NotAction" if "NotAction" in statement else "Action"
    simplified[key] = [_escaped(str(one).lower()) for one in many(statement[key])]
    return simplified


def _escaped(pattern: str) -> str:
    return "*".join(re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
