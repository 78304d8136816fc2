"""A deployment on Azure as commands use it: the caller's sign-in, tenant, subscription and management group."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.deployment.azure.app import NAME_VARIABLE, RESOURCES_API, apps_of_tenant, find, subscription_of
from cli.deployment.azure.names import names
from cli.deployment.azure.rest import SIGN_IN, Rest
from cli.deployment.model import CHOSEN, OperatorError, Place, Problem
from cli.deployment.output import number_of, some
from shared.runtime.clock import Clock

SUBSCRIPTIONS_API = "2022-12-01"
WRITABLE = ("Enabled", "Warned", "PastDue")
MANAGEMENT_GROUPS = "/providers/Microsoft.Management/managementGroups"
NO_REGION = "not chosen yet"
SUBSCRIPTION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Session:
    """The context of the operator port: Azure's APIs, the caller, and the place of the deployment.

    `caller` is the object id of the caller, "" if the token does not contain it. `group` is the name of a management
    group, "" if the deployment is only for `subscriptions`. `title` is the subscription's display name.
    """

    rest: Rest
    environment: Mapping[str, str]
    tenant: str
    subscription: str
    title: str
    region: str
    caller: str
    caller_name: str
    user: bool
    group: str
    subscriptions: tuple[str, ...]
    policy: bool
    closed: bool
    announces: bool
    fleet: bool

    @property
    def place(self) -> Place:
        """Return tenant, subscription and scopes as every command shows them."""
        details = {"subscription": self.title}
        if self.group:
            root = " (the whole tenant)" if self.group.lower() == self.tenant else ""
            details["exports below management group"] = f"{self.group}{root}"
        else:
            details["exports of"] = f"{number_of(self.subscriptions, 'subscription')}: {some(self.subscriptions)}"
        return Place("azure", self.tenant, "tenant", self.caller_name, self.region, details)

    @property
    def path(self) -> str:
        return f"/subscriptions/{self.subscription}"

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes whose exports the function manages."""
        if self.group:
            return (f"{MANAGEMENT_GROUPS}/{self.group}",)
        return tuple(f"/subscriptions/{one}" for one in self.subscriptions)


def open_session(given: Mapping[str, Any], environment: Mapping[str, str], clock: Clock) -> Session:
    """Return the session for the chosen subscription. Raises OperatorError with every problem."""
    environment = dict(environment)
    # Not the module's variable `function_name`, which is only the beginning of an app's name.
    if given.get(CHOSEN):
        environment[NAME_VARIABLE] = str(given[CHOSEN])
    rest = Rest(environment, clock)
    claims = rest.claims()
    subscription = (_of_deployment(rest, given, environment) if CHOSEN in given else "") or chosen_subscription(
        rest, environment
    )
    found = rest.get(f"/subscriptions/{subscription}", SUBSCRIPTIONS_API)
    if found is None:
        raise OperatorError(
            Problem(
                f"subscription {subscription} does not exist, or you may not see it",
                f"Set AZURE_SUBSCRIPTION_ID. {SIGN_IN}",
            )
        )
    tenant = str(found.get("tenantId") or claims.get("tid", "")).lower()
    problems = list(_wrong(rest, found, tenant, rest.settings.entra_tenant.lower() or claims.get("tid", "")))
    if problems:
        raise OperatorError(*problems)
    listed = _value(given, environment, "include_subscriptions")
    group = str(_value(given, environment, "management_group_id") or "")
    deployed = None if group or listed else find(rest, subscription, environment)
    if deployed:
        group = deployed.settings.get("MANAGEMENT_GROUP", "")
        listed = [one for one in deployed.settings.get("INCLUDE_SUBSCRIPTIONS", "").split(",") if one]
    caller = claims.get("oid", "")
    offer = str((found.get("subscriptionPolicies") or {}).get("quotaId", ""))
    return Session(
        rest=rest,
        environment=environment,
        tenant=tenant,
        subscription=subscription,
        title=f"{found.get('displayName', '')} ({subscription}, {offer})",
        region=_region(rest, subscription, given, environment),
        caller=caller,
        caller_name=_named(claims),
        user=claims.get("idtyp", "user" if "upn" in claims else "app") == "user",
        group=group or ("" if listed else tenant),
        subscriptions=tuple(listed) if isinstance(listed, list | tuple) else (),
        policy=str(_value(given, environment, "policy") or "off") != "off",
        closed=str(_value(given, environment, "storage_closed") or "").lower() == "true",
        announces=str(_value(given, environment, "delivery_events") or "").lower() == "true",
        fleet=str(_value(given, environment, "fleet") or "").lower() == "true",
    )


def _region(rest: Rest, subscription: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the given region, else that of the existing resource group."""
    chosen = given.get("location") or environment.get("TF_VAR_location")
    if chosen:
        return str(chosen)
    group = names(subscription, given).group
    found = rest.get(f"/subscriptions/{subscription}/resourceGroups/{group}", RESOURCES_API) or {}
    return str(found.get("location") or NO_REGION)


def _of_deployment(rest: Rest, given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the tenant's one subscription with a deployed function, "" if none is known.

    If the environment names a subscription, only that one is searched, unless the command line names a function. Raises
    OperatorError if functions are deployed in several subscriptions and none is named.
    """
    if _named_subscription(environment) and not given[CHOSEN]:
        return ""
    wanted = environment.get(NAME_VARIABLE, "").strip().lower()
    found = [one for one in apps_of_tenant(rest) if wanted in ("", str(one["name"]).lower())]
    subscriptions = {subscription_of(one) for one in found}
    if len(subscriptions) > 1:
        names = ", ".join(sorted(f"{one['name']} in subscription {subscription_of(one)}" for one in found))
        raise OperatorError(
            Problem(
                f"{len(found)} functions are deployed in this tenant: {names}",
                "Choose one of them: --function NAME, or set AZURE_SUBSCRIPTION_ID.",
            )
        )
    return next(iter(subscriptions), "")


def _named_subscription(environment: Mapping[str, str]) -> str:
    """Return the subscription that the environment names, "" if none. Raises OperatorError if it is not an id."""
    for name in ("AZURE_SUBSCRIPTION_ID", "ARM_SUBSCRIPTION_ID"):
        named = environment.get(name, "").strip().lower()
        if named and not SUBSCRIPTION_ID.fullmatch(named):
            raise OperatorError(
                Problem(
                    f"{name} = {json.dumps(named)} is not a subscription's id",
                    "Write the id that `az account list --output table` shows, such as "
                    "00000000-0000-0000-0000-000000000000.",
                )
            )
        if named:
            return named
    return ""


def chosen_subscription(rest: Rest, environment: Mapping[str, str]) -> str:
    """Return the deployment's subscription: the configured one, az's default, or the only one."""
    named = _named_subscription(environment)
    if named:
        return named
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
        raise OperatorError(Problem("you have access to no subscription", SIGN_IN))
    names = ", ".join(f"{one['subscriptionId']} ({one.get('displayName', '')})" for one in seen[:5])
    raise OperatorError(
        Problem(
            f"{len(seen)} subscriptions could hold the deployment: {names}{' …' if len(seen) > 5 else ''}",
            "Set AZURE_SUBSCRIPTION_ID to one of them, preferably one that is used for management.",
        )
    )


def _wrong(rest: Rest, subscription: Mapping[str, Any], tenant: str, signed_in: str) -> list[Problem]:
    problems = []
    name = subscription.get("subscriptionId", "")
    if subscription.get("state") not in WRITABLE:
        problems.append(
            Problem(
                f"subscription {name} is {subscription.get('state')}: nothing can be made in it",
                "Reactivate it in the portal, or set AZURE_SUBSCRIPTION_ID to another one.",
            )
        )
    if signed_in and tenant and signed_in.lower() != tenant:
        problems.append(
            Problem(
                f"you are signed in to tenant {signed_in}, but subscription {name} belongs to tenant {tenant}",
                f"Sign in there: `az login --tenant {tenant}`, or set AZURE_SUBSCRIPTION_ID to one of your tenant.",
            )
        )
    tenants = [one for one in rest.pages("/tenants", SUBSCRIPTIONS_API) if one.get("tenantId", "").lower() == tenant]
    problems += [
        Problem(
            f"tenant {tenant} is of type {one['tenantType']}, for an app's customers, and has no subscriptions",
            "Sign in to your organization's own tenant.",
        )
        for one in tenants
        if one.get("tenantType", "AAD") != "AAD"
    ]
    return problems


def _value(given: Mapping[str, Any], environment: Mapping[str, str], name: str) -> Any:
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
        # az writes the file with a byte order mark.
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
    return f"object {claims['oid']}" if claims.get("oid") else "a caller whose token has no object id"
