"""The operations of AWS Organizations on trusted services and delegated administrators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.services.organization import Organization
from shared.runtime.clock import Clock

_Handler = Callable[[Organization, dict[str, Any]], dict[str, Any]]
_Page = Callable[[list[Any], dict[str, Any]], tuple[list[Any], str | None]]


def administration(clock: Clock, page: _Page) -> dict[str, tuple[_Handler, bool]]:
    """Return, by operation, its handler and whether delegated administrators may also call it."""

    # difference: AWS-13
    def need_all_features(org: Organization) -> None:
        if org.feature_set != "ALL":
            raise AwsError(
                "ConstraintViolationException",
                "You can't perform this operation: the organization supports consolidated billing features only.",
                extra={"Reason": "ORGANIZATION_NOT_IN_ALL_FEATURES_MODE"},
            )

    def enable(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        need_all_features(org)
        org.trusted[params["ServicePrincipal"]] = clock.now()
        return {}

    def trusted(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        services = [{"ServicePrincipal": name, "DateEnabled": org.trusted[name]} for name in sorted(org.trusted)]
        shown, token = page(services, params)
        return {"EnabledServicePrincipals": shown, "NextToken": token}

    def register(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        need_all_features(org)
        account, service = org.account(params["AccountId"]), params["ServicePrincipal"]
        if account.id == org.management:
            message = "You cannot register the management account as a delegated administrator."
            raise AwsError("ConstraintViolationException", message)
        if service in org.delegated.get(account.id, {}):
            raise AwsError("AccountAlreadyRegisteredException", "The account is already a delegated administrator.")
        org.delegated.setdefault(account.id, {})[service] = clock.now()
        return {}

    return {
        "EnableAWSServiceAccess": (enable, False),
        "ListAWSServiceAccessForOrganization": (trusted, True),
        "RegisterDelegatedAdministrator": (register, False),
    }
