"""Operations of AWS Organizations on trusted services, delegated administrators and tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.aws.errors import AwsError
from localcloud.aws.services.organization import Account, Organization
from shared.runtime.clock import Clock

_Handler = Callable[[Organization, dict[str, Any]], dict[str, Any]]
_Describe = Callable[[Organization, Account], dict[str, Any]]
_Page = Callable[[list[Any], dict[str, Any]], tuple[list[Any], str | None]]


def administration(clock: Clock, describe: _Describe, page: _Page) -> dict[str, tuple[_Handler, bool]]:
    """Operation name to its handler and whether delegated administrators may call it too."""

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

    def disable(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        org.trusted.pop(params["ServicePrincipal"], None)
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

    def deregister(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        services = org.delegated.get(org.account(params["AccountId"]).id, {})
        if params["ServicePrincipal"] not in services:
            raise AwsError("AccountNotRegisteredException", "The account is not a delegated administrator.")
        del services[params["ServicePrincipal"]]
        if not services:
            del org.delegated[params["AccountId"]]
        return {}

    def administrators(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        service = params.get("ServicePrincipal")
        listed = [
            describe(org, org.accounts[account]) | {"DelegationEnabledDate": min(services.values())}
            for account, services in org.delegated.items()
            if not service or service in services
        ]
        shown, token = page(listed, params)
        return {"DelegatedAdministrators": shown, "NextToken": token}

    def services_of(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        account = org.account(params["AccountId"]).id
        if account not in org.delegated:
            raise AwsError("AccountNotRegisteredException", "The account is not a delegated administrator.")
        services = org.delegated[account]
        listed = [{"ServicePrincipal": name, "DelegationEnabledDate": services[name]} for name in sorted(services)]
        shown, token = page(listed, params)
        return {"DelegatedServices": shown, "NextToken": token}

    def tags_of(org: Organization, params: dict[str, Any]) -> dict[str, str]:
        target = params["ResourceId"]
        if target in org.accounts:
            return org.accounts[target].tags
        if target in org.units:
            return org.units[target].tags
        raise AwsError("TargetNotFoundException", "We can't find a root, OU or account with this id.")

    def tag(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        tags_of(org, params).update({tag["Key"]: tag["Value"] for tag in params["Tags"]})
        return {}

    def untag(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        tags = tags_of(org, params)
        for key in params["TagKeys"]:
            tags.pop(key, None)
        return {}

    def list_tags(org: Organization, params: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags_of(org, params).items())]}

    return {
        "EnableAWSServiceAccess": (enable, False),
        "DisableAWSServiceAccess": (disable, False),
        "ListAWSServiceAccessForOrganization": (trusted, True),
        "RegisterDelegatedAdministrator": (register, False),
        "DeregisterDelegatedAdministrator": (deregister, False),
        "ListDelegatedAdministrators": (administrators, True),
        "ListDelegatedServicesForAccount": (services_of, True),
        "TagResource": (tag, False),
        "UntagResource": (untag, False),
        "ListTagsForResource": (list_tags, True),
    }
