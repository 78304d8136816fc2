"""Where the caller is in Azure: tenant, subscription, management group; and what is deployed there, by its tag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure_function.settings import Storage
from cli.deployment.azure.rest import SIGN_IN, Rest
from cli.deployment.model import Deployed, Fault, OperatorError

RESOURCES_API = "2021-04-01"
SUBSCRIPTIONS_API = "2022-12-01"
SITES_API = "2024-04-01"
GROUP = "tailpipe-dataexport"
NAME_VARIABLE = "TAILPIPE_EXPORTS_FUNCTION_NAME"
TAG, TAGGED = "managed-by", "tailpipe-exports"
FUNCTION = "tailpipe-exports"
WRITABLE = ("Enabled", "Warned", "PastDue")
MANAGEMENT_GROUPS = "/providers/Microsoft.Management/managementGroups"


@dataclass(frozen=True)
class Where:
    """`caller` is the object id of whoever calls, "" where his token does not tell; `group` a management group's name,
    "" where the deployment is for `subscriptions` alone.
    """

    tenant: str
    subscription: str
    caller: str
    caller_name: str
    user: bool
    group: str
    subscriptions: tuple[str, ...]
    policy: bool
    closed: bool

    @property
    def path(self) -> str:
        return f"/subscriptions/{self.subscription}"

    @property
    def suffix(self) -> str:
        return self.subscription[-6:]

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return where the function keeps exports."""
        if self.group:
            return (f"{MANAGEMENT_GROUPS}/{self.group}",)
        return tuple(f"/subscriptions/{one}" for one in self.subscriptions)


@dataclass(frozen=True)
class Deployment:
    """The deployed function app; `settings` are its app settings, never to be shown as a whole."""

    site: Mapping[str, Any]
    settings: Mapping[str, str]

    @property
    def id(self) -> str:
        return str(self.site["id"])

    @property
    def name(self) -> str:
        return str(self.site["name"])

    @property
    def principal(self) -> str:
        return str((self.site.get("identity") or {}).get("principalId", ""))

    @property
    def container(self) -> str:
        return self.settings.get("DESTINATION_CONTAINER", "dataexport")

    @property
    def destinations(self) -> list[Storage]:
        return [Storage(one.strip()) for one in self.settings.get("DESTINATION", "").split(",") if one.strip()]

    @property
    def identity_exports(self) -> bool:
        return self.settings.get("EXPORT_IDENTITY") == "system"


def look(rest: Rest, given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Where, Mapping[str, Any]]:
    """Return where the caller is, and the subscription as Azure shows it. Raises OperatorError with every fault."""
    claims = rest.claims()
    subscription = chosen_subscription(rest, environment)
    found = rest.get(f"/subscriptions/{subscription}", SUBSCRIPTIONS_API)
    if found is None:
        raise OperatorError(
            Fault(
                f"subscription {subscription} is not there, or not yours to see",
                f"Set AZURE_SUBSCRIPTION_ID. {SIGN_IN}",
            )
        )
    tenant = str(found.get("tenantId") or claims.get("tid", "")).lower()
    faults = list(_wrong(rest, found, tenant, rest.settings.tenant.lower() or claims.get("tid", "")))
    if faults:
        raise OperatorError(*faults)
    listed = _told(given, environment, "include_subscriptions")
    group = str(_told(given, environment, "management_group_id") or "")
    deployed = None if group or listed else find(rest, subscription, environment)
    if deployed:
        group = deployed.settings.get("MANAGEMENT_GROUP", "")
        listed = [one for one in deployed.settings.get("INCLUDE_SUBSCRIPTIONS", "").split(",") if one]
    caller = claims.get("oid", "")
    where = Where(
        tenant=tenant,
        subscription=subscription,
        caller=caller,
        caller_name=_named(claims),
        user=claims.get("idtyp", "user" if "upn" in claims else "app") == "user",
        group=group or ("" if listed else tenant),
        subscriptions=tuple(listed) if isinstance(listed, list | tuple) else (),
        policy=str(_told(given, environment, "policy") or "off") != "off",
        closed=str(_told(given, environment, "storage_closed") or "").lower() == "true",
    )
    return where, found


def chosen_subscription(rest: Rest, environment: Mapping[str, str]) -> str:
    """Return the subscription that holds the deployment: as told, as az has it, or the only one."""
    for name in ("AZURE_SUBSCRIPTION_ID", "ARM_SUBSCRIPTION_ID"):
        if environment.get(name, "").strip():
            return environment[name].strip().lower()
    parts = environment.get("DESTINATION", "").split("/")
    if len(parts) > 2 and parts[1] == "subscriptions":
        return parts[2].lower()
    default = "" if rest.loopback else _of_az(environment)
    if default:
        return default
    seen = [one for one in rest.pages("/subscriptions", SUBSCRIPTIONS_API) if one.get("state") in WRITABLE]
    if len(seen) == 1:
        return str(seen[0]["subscriptionId"]).lower()
    if not seen:
        raise OperatorError(Fault("you may see no subscription", SIGN_IN))
    names = ", ".join(f"{one['subscriptionId']} ({one.get('displayName', '')})" for one in seen[:5])
    raise OperatorError(
        Fault(
            f"{len(seen)} subscriptions could hold the deployment: {names}{' …' if len(seen) > 5 else ''}",
            "Set AZURE_SUBSCRIPTION_ID to one of them, best one that is there for management.",
        )
    )


def find(rest: Rest, subscription: str, environment: Mapping[str, str]) -> Deployment | None:
    """Return what is deployed in a subscription, None if nothing is. Raises OperatorError where there are several."""
    wanted = environment.get(NAME_VARIABLE, "").strip().lower()
    ours = [one for one in apps(rest, subscription) if wanted in ("", str(one["name"]).lower())]
    if len(ours) > 1:
        names = ", ".join(sorted(str(one["name"]) for one in ours))
        remedy = f"Choose one of them: --function NAME (plan and run), or {NAME_VARIABLE}."
        raise OperatorError(Fault(f"several functions are deployed here: {names}", remedy))
    if not ours:
        return None
    site = rest.get(ours[0]["id"], SITES_API)
    if site is None:
        return None
    return Deployment(site, _settings(rest, site))


def _settings(rest: Rest, site: Mapping[str, Any]) -> dict[str, str]:
    """Return an app's settings. Raises OperatorError where they cannot be read: defaults would be another place."""
    try:
        answer = rest.ask("POST", f"{site['id']}/config/appsettings/list", SITES_API)
        found = answer.get("properties") if isinstance(answer, dict) else None
        why = "" if isinstance(found, dict) and found else "Azure answers without any"
    except OperatorError as error:
        found, why = None, str(error)
    if not found:
        raise OperatorError(
            Fault(
                f"the settings of function app {site.get('name', '')} cannot be read: {why}",
                "Grant Microsoft.Web/sites/config/list/action on it (the role Website Contributor has it), and call"
                " again.",
            )
        )
    return {str(name): str(value) for name, value in found.items()}


def apps(rest: Rest, subscription: str) -> list[dict[str, Any]]:
    """Return the function apps of ours in a subscription, as its listing shows them."""
    wanted = "resourceType eq 'Microsoft.Web/sites'"
    listed = rest.pages(f"/subscriptions/{subscription}/resources", RESOURCES_API, _filter=wanted)
    return [one for one in listed if (one.get("tags") or {}).get(TAG) == TAGGED]


def functions(rest: Rest, subscription: str) -> list[Deployed]:
    """Return the function apps of ours in a subscription."""
    found = []
    for one in apps(rest, subscription):
        site = rest.get(one["id"], SITES_API) or {}
        changed = str((site.get("properties") or {}).get("lastModifiedTimeUtc", ""))
        settings = _settings(rest, site) if site else {}
        hidden = {
            name: "it refers to a secret of a key vault, which Key Vault Secrets User may read"
            for name, value in settings.items()
            if value.lstrip().startswith("@Microsoft.KeyVault(")
        }
        version = f"changed {changed[:16]} UTC" if changed else "of unknown age"
        region = {"REGION_NAME": str(site.get("location", ""))}
        group = str(one["id"]).split("/")[4]
        title = f"resource group {group}, function app {one['name']}"
        found.append(Deployed(str(one["name"]), title, version, region, hidden))
    return found


def require(rest: Rest, where: Where, environment: Mapping[str, str]) -> Deployment:
    """Return what is deployed. Raises OperatorError if nothing is."""
    found = find(rest, where.subscription, environment)
    if found is None:
        raise OperatorError(
            Fault(
                f"no function is deployed in subscription {where.subscription}",
                "Set AZURE_SUBSCRIPTION_ID to the subscription that holds it, "
                "or deploy it: `tailpipe-exports deploy azure`.",
            )
        )
    return found


def _wrong(rest: Rest, subscription: Mapping[str, Any], tenant: str, signed_in: str) -> list[Fault]:
    faults = []
    name = subscription.get("subscriptionId", "")
    if subscription.get("state") not in WRITABLE:
        faults.append(
            Fault(
                f"subscription {name} is {subscription.get('state')}: nothing can be made in it",
                "Reactivate it in the portal, or set AZURE_SUBSCRIPTION_ID to another one.",
            )
        )
    if signed_in and tenant and signed_in.lower() != tenant:
        faults.append(
            Fault(
                f"you are signed in to tenant {signed_in}, but subscription {name} belongs to tenant {tenant}",
                f"Sign in there: `az login --tenant {tenant}`, or set AZURE_SUBSCRIPTION_ID to one of your tenant.",
            )
        )
    tenants = [one for one in rest.pages("/tenants", SUBSCRIPTIONS_API) if one.get("tenantId", "").lower() == tenant]
    faults += [
        Fault(
            f"tenant {tenant} is of type {one['tenantType']}, for an app's customers, and has no subscriptions",
            "Sign in to your organization's own tenant.",
        )
        for one in tenants
        if one.get("tenantType", "AAD") != "AAD"
    ]
    return faults


def _told(given: Mapping[str, Any], environment: Mapping[str, str], name: str) -> Any:
    if given.get(name) is not None:
        return given[name]
    text = environment.get(f"TF_VAR_{name}", "").strip()
    if text.startswith("["):
        try:
            return [str(one) for one in json.loads(text)]
        except ValueError:
            return None
    return text or None


def _of_az(environment: Mapping[str, str]) -> str:
    """Return the Azure CLI's default subscription, "" if it has none."""
    folder = environment.get("AZURE_CONFIG_DIR") or str(Path.home() / ".azure")
    try:
        # az writes it with a byte order mark.
        profile = json.loads((Path(folder) / "azureProfile.json").read_text(encoding="utf-8-sig"))
        listed = profile.get("subscriptions", [])
        return next((str(one["id"]).lower() for one in listed if one.get("isDefault")), "")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ""


def _named(claims: Mapping[str, str]) -> str:
    if claims.get("upn"):
        return claims["upn"]
    if claims.get("idtyp") == "app" and claims.get("appid"):
        return f"application {claims['appid']}"
    return f"object {claims['oid']}" if claims.get("oid") else "somebody whose token does not tell"
