"""Azure's errors, with the status, code and message that callers receive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ArmError(Exception):
    """An error response, `{"error": {"code", "message"}}`; `more` are additional members of the error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    def document(self) -> dict[str, Any] | None:
        """Return the response body, or None (an empty body) for an error without code and message."""
        if not self.code and not self.message:
            return None
        return {"error": {"code": self.code, "message": self.message, **self.more}}


def bad_request(message: str, code: str = "400") -> ArmError:
    """Return a 400 error; Cost Management's own errors use the status as their code."""
    return ArmError(400, code, message)


def not_found(code: str, message: str) -> ArmError:
    """Return a 404 error."""
    return ArmError(404, code, message)


def subscription_not_found(subscription: str) -> ArmError:
    """Return a 404 error: the subscription does not exist or is not in the tenant."""
    return not_found("SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")


def resource_not_found(resource: str) -> ArmError:
    """Return a 404 error with Resource Manager's generic message for a missing resource."""
    return not_found(
        "ResourceNotFound",
        f"The Resource '{resource}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def authorization_failed(principal: str, action: str, scope: str) -> ArmError:
    """Return Resource Manager's 403 error: no role assignment of the caller allows the action at the scope."""
    return ArmError(
        403,
        "AuthorizationFailed",
        f"The client '{principal}' with object id '{principal}' does not have authorization to perform action "
        f"'{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh "
        "your credentials.",
    )


def linked_authorization_failed(principal: str, action: str, scope: str) -> ArmError:
    """Return a 403 error: the caller lacks a permission on another resource that the request references."""
    return ArmError(
        403,
        "LinkedAuthorizationFailed",
        f"The client '{principal}' has permission to perform the action on its scope; however, it does not have "
        f"permission to perform action(s) '{action}' on the linked scope(s) '{scope}' or the linked scope(s) are "
        "invalid.",
    )


def rbac_access_denied(detail: str = "") -> ArmError:
    """Return Cost Management's own 401 error; its permission cache lags behind Resource Manager's."""
    message = "The client does not have authorization to perform action."
    return ArmError(401, "RBACAccessDenied", f"{message} {detail}".strip())


def read_only(subscription: str) -> ArmError:
    """Return a 409 error: a disabled subscription rejects every write."""
    return ArmError(
        409,
        "ReadOnlyDisabledSubscription",
        f"The subscription '{subscription}' is disabled and therefore marked as read only. You cannot perform any "
        "write actions on this subscription until it is re-enabled.",
    )


def scope_locked(path: str, locked: str) -> ArmError:
    """Return a 409 error: a resource lock prevents the write."""
    return ArmError(
        409,
        "ScopeLocked",
        f"The scope '{path}' cannot perform write operation because following scope(s) are locked: '{locked}'. Please "
        "remove the lock and try again.",
    )


def disallowed_by_policy(resource: str, assignment: str, group: str) -> ArmError:
    """Return a 403 error: an Azure Policy assignment with the effect `deny` rejects the resource."""
    place = f"/providers/Microsoft.Management/managementGroups/{group}"
    identifier = f"{place}/providers/Microsoft.Authorization/policyAssignments/{assignment}"
    definition = f"{place}/providers/Microsoft.Authorization/policyDefinitions/{assignment}"
    names = {"name": assignment, "id": identifier}
    policies = [{"policyAssignment": names, "policyDefinition": {"name": assignment, "id": definition}}]
    info = {
        "policyDefinitionDisplayName": assignment,
        "policyDefinitionId": definition,
        "policyDefinitionEffect": "deny",
        "policyAssignmentId": identifier,
        "policyAssignmentName": assignment,
        "policyAssignmentDisplayName": assignment,
        "policyAssignmentScope": place,
    }
    return ArmError(
        403,
        "RequestDisallowedByPolicy",
        f"Resource '{resource}' was disallowed by policy. Policy identifiers: '{json.dumps(policies)}'.",
        more={"target": resource, "additionalInfo": [{"type": "PolicyViolation", "info": info}]},
    )


def disallowed_by_azure(resource: str) -> ArmError:
    """Return a 403 error: Azure allows no new resources of the subscription in the region.

    The message is the one quoted in public reports.
    """
    return ArmError(
        403,
        "RequestDisallowedByAzure",
        f"Resource '{resource}' was disallowed by Azure: This policy maintains a set of best available regions where "
        "your subscription can deploy resources. The objective of this policy is to ensure that your subscription has "
        "full access to Azure services with optimal performance. Should you need additional or different regions, "
        "contact support.",
    )


def missing_registration(namespace: str) -> ArmError:
    """Return a 409 error: the resource provider must be registered first."""
    return ArmError(
        409,
        "MissingSubscriptionRegistration",
        f"The subscription is not registered to use namespace '{namespace}'. See https://aka.ms/rps-not-found for how "
        "to register subscriptions.",
    )
