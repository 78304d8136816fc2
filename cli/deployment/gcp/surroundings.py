"""The surroundings of a deployment: policies, perimeters, the issuer, and the console step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.deployment.gcp.issuer import issuer_finding
from cli.deployment.gcp.preflight import apis
from cli.deployment.gcp.rest import Google, remedy_of
from cli.deployment.gcp.session import Session
from cli.deployment.gcp.verify import PROVIDER, accounts
from cli.deployment.model import Finding
from gcp_function.targets import EXPORT_PRINCIPAL, PRICING_PRINCIPAL
from shared.errors import ReportedError

UPDATE_SPEC = "billing.accounts.updateUsageExportSpec"
# Who may enable a usage export, on the account and on the project ("Set up Cloud Billing data export to BigQuery").
ACCOUNT_ROLES = ("roles/billing.admin", "roles/billing.costsManager")
PROJECT_RIGHTS = {"bigquery.datasets.create": "roles/bigquery.user", "resourcemanager.projects.update": "roles/editor"}
MOST_ACCOUNTS = 50  # queried one by one
POLICY_RIGHT = "orgpolicy.policy.get"
ASK_POLICY = "Ask an Organization Policy Administrator for an exception for this project"
POLICIES_URL = "https://console.cloud.google.com/iam-admin/orgpolicies"
PERIMETER = "vpc-service-controls"


def surroundings(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the checks; one that may not be read has `ok` None."""
    yield from obstacles(session, given)
    yield from console_step(session)


def obstacles(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the checks of issuer, perimeter and organization policies, which can make a deployment fail."""
    yield from _issuer(session, given)
    yield from _perimeter(session)
    yield from _policies(session, given)


def _issuer(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    issuer = str(given.get("tailpipe_issuer") or "") or _live_issuer(session)
    if issuer and given.get("check_issuer") is not False:
        yield issuer_finding(session.google, issuer)


def _live_issuer(session: Session) -> str:
    try:
        provider = session.google.find("iam", f"v1/{session.pool}/providers/{PROVIDER}")
    except ReportedError:
        return ""
    return str((provider or {}).get("oidc", {}).get("issuerUri", ""))


def _perimeter(session: Session) -> Iterator[Finding]:
    """Check that VPC Service Controls admits the caller to BigQuery and Cloud Storage."""
    probes = {"bigquery": f"bigquery/v2/{session.parent}/datasets", "storage": f"storage/v1/b/{session.bucket}"}
    for service, path in probes.items():
        try:
            session.google.find(service, path, **({"maxResults": 1} if service == "bigquery" else {}))
        except ReportedError as error:
            if error.code == PERIMETER:
                yield Finding(f"VPC Service Controls and {service}", False, error.message, error.remedy)


def _policies(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    looked_at, in_the_way = 0, 0
    for name, judge in _CONSTRAINTS.items():
        body = {"constraint": f"constraints/{name}"}
        try:
            policy = session.google.post("cloudresourcemanager", f"v1/{session.parent}:getEffectiveOrgPolicy", body)
        except ReportedError as error:
            remedy = (
                f"Grant {POLICY_RIGHT} (roles/orgpolicy.policyViewer) on the project or the organization to see them, "
                f"or look yourself: {POLICIES_URL}"
            )
            yield Finding("organization policies", None, error.message, remedy)
            return
        looked_at += 1
        for one in judge(name, policy, session, given):
            in_the_way += 1
            yield one
    if not in_the_way:
        yield Finding("organization policies", True, f"none of the {looked_at} that matter is in the way")


def permits(policy: Mapping[str, Any], value: str) -> bool | None:
    """Return whether a list constraint permits a value; None if it names groups that only Google can resolve.

    Source: "Understanding constraints" and the resource ListPolicy (Resource Manager v1).
    """
    listed = policy.get("listPolicy") or {}
    if listed.get("allValues") in ("ALLOW", "DENY"):
        return bool(listed["allValues"] == "ALLOW")
    allowed, denied = (
        {str(one).removeprefix("is:").lower() for one in listed.get(key) or ()}
        for key in ("allowedValues", "deniedValues")
    )
    wanted = value.lower()
    if wanted in denied:
        return False
    if allowed:
        if wanted in allowed:
            return True
        return None if any(one.startswith(("in:", "under:")) for one in allowed) else False
    return None if any(one.startswith(("in:", "under:")) for one in denied) else True


def _restricts(policy: Mapping[str, Any]) -> bool:
    listed = policy.get("listPolicy") or {}
    return listed.get("allValues") == "DENY" or bool(listed.get("allowedValues") or listed.get("deniedValues"))


def _finding(name: str, ok: bool | None, detail: str, remedy: str) -> Finding:
    return Finding(f"organization policy {name}", ok, detail, f"{remedy} ({POLICIES_URL}).")


def _accounts_refused(
    name: str, policy: Mapping[str, Any], session: Session, _given: Mapping[str, Any]
) -> Iterator[Finding]:
    if (policy.get("booleanPolicy") or {}).get("enforced"):
        ok = None if session.live else False
        yield _finding(name, ok, "no service account can be created, and the deployment creates four", ASK_POLICY)


def _values(
    name: str, policy: Mapping[str, Any], wanted: Mapping[str, str], detail: str, remedy: str
) -> Iterator[Finding]:
    """Yield one finding for all refused values, and one for all that only Google can evaluate."""
    answers = {value: permits(policy, value) for value in wanted}
    for ok in (False, None):
        found = [f"{wanted[value]} {value}".strip() for value, answer in answers.items() if answer is ok]
        if found:
            said = "does not permit" if ok is False else "may not permit"
            yield _finding(name, ok, f"{said} {', '.join(found)}: {detail}", remedy)


def _issuers(name: str, policy: Mapping[str, Any], _session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    issuer = str(given.get("tailpipe_issuer") or "")
    if issuer:
        detail = "the identity provider by which Tailpipe signs in cannot be made"
        yield from _values(name, policy, {issuer: ""}, detail, f"{ASK_POLICY}, or to permit the issuer")


def _locations(name: str, policy: Mapping[str, Any], session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    location = str(given.get("dataset_location") or session.settings.get("DATASET_LOCATION") or "US")
    wanted = {location.lower(): "dataset_location", session.region: "region"}
    yield from _values(name, policy, wanted, "nothing can be created there", "Choose others that it permits")


def _services(name: str, policy: Mapping[str, Any], _session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    wanted = {f"{one}.googleapis.com": "" for one in apis(given)}
    yield from _values(name, policy, wanted, "the deployment needs them", ASK_POLICY)


def _keys(name: str, policy: Mapping[str, Any], _session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    wanted = {"bigquery.googleapis.com": "", "storage.googleapis.com": ""}
    detail = "they would need customer-managed keys, and Google writes no billing data to a dataset that has one"
    yield from _values(name, policy, wanted, detail, ASK_POLICY)


def _retention(name: str, policy: Mapping[str, Any], _session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    if _restricts(policy):
        detail = "every bucket has to keep its objects for a time, in which neither state nor manifests can be replaced"
        yield _finding(name, False, detail, ASK_POLICY)


def _run_ingress(
    name: str, policy: Mapping[str, Any], _session: Session, given: Mapping[str, Any]
) -> Iterator[Finding]:
    value = "all" if given.get("ingress") == "ALLOW_ALL" else "internal"
    remedy = "Deploy with another ingress, or ask for an exception"
    yield from _values(name, policy, {value: "ingress"}, "the function cannot be created", remedy)


def _function_ingress(
    name: str, policy: Mapping[str, Any], _session: Session, given: Mapping[str, Any]
) -> Iterator[Finding]:
    value = str(given.get("ingress") or "ALLOW_INTERNAL_ONLY")
    remedy = "Deploy with another ingress, or ask for an exception"
    yield from _values(name, policy, {value: "ingress"}, "the function cannot be created", remedy)


def _members(name: str, policy: Mapping[str, Any], _session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    if _restricts(policy):
        detail = f"Google's writers {EXPORT_PRINCIPAL} and {PRICING_PRINCIPAL} may be refused in the console step"
        remedy = "If the console refuses that step, ask an Organization Policy Administrator to lift it for the project"
        yield _finding(name, None, f"{detail} on the dataset", f"{remedy} meanwhile")


_CONSTRAINTS = {
    "iam.disableServiceAccountCreation": _accounts_refused,
    "iam.workloadIdentityPoolProviders": _issuers,
    "gcp.resourceLocations": _locations,
    "gcp.restrictServiceUsage": _services,
    "gcp.restrictNonCmekServices": _keys,
    "storage.retentionPolicySeconds": _retention,
    "run.allowedIngress": _run_ingress,
    "cloudfunctions.allowedIngressSettings": _function_ingress,
    "iam.allowedPolicyMemberDomains": _members,
}
CONSTRAINTS = tuple(_CONSTRAINTS)


def console_step(session: Session) -> Iterator[Finding]:
    """Yield the accounts whose exports the caller can enable, and who can enable the others'."""
    try:
        found = _asked_accounts(session)
        may = [one for one in found if _may(session.google, one)]
        held = session.google.post(
            "cloudresourcemanager", f"v3/{session.parent}:testIamPermissions", {"permissions": list(PROJECT_RIGHTS)}
        ).get("permissions", ())
    except ReportedError as error:
        yield Finding("who can take the console step", None, error.message, remedy_of(error))
        return
    if may:
        yield Finding(f"you can switch exports on for {len(may)} of {len(found)} billing accounts", True)
    for account in found:
        if account not in may:
            yield _not_you(session, account)
    for right, role in PROJECT_RIGHTS.items():
        if right not in held:
            which = "usage exports" if right.startswith("bigquery") else "the pricing export"
            yield Finding(
                f"you can choose project {session.project} for {which}",
                None,
                f"you lack {right} on the project",
                f"The person who takes the step needs it too: gcloud projects add-iam-policy-binding {session.project} "
                f"--member={session.member} --role={role}",
            )


def _asked_accounts(session: Session) -> Sequence[str]:
    named = session.given.get("billing_accounts") or ()
    return [str(one) for one in named][:MOST_ACCOUNTS] or accounts(session)[:MOST_ACCOUNTS]


def _may(google: Google, account: str) -> bool:
    path = f"v1/billingAccounts/{account}:testIamPermissions"
    return UPDATE_SPEC in google.post("cloudbilling", path, {"permissions": [UPDATE_SPEC]}).get("permissions", ())


def _not_you(session: Session, account: str) -> Finding:
    try:
        policy = session.google.get("cloudbilling", f"v1/billingAccounts/{account}:getIamPolicy")
        bindings = policy.get("bindings", ())
        holders = sorted({str(member) for one in bindings if one["role"] in ACCOUNT_ROLES for member in one["members"]})
    except ReportedError:
        holders = []
    who = f"; {', '.join(holders[:5])} can" if holders else ""
    return Finding(
        f"you can switch exports on for billing account {account}",
        None,
        f"you lack {UPDATE_SPEC}{who}",
        f"Ask {'one of them' if holders else 'a Billing Account Administrator'}, or be granted Billing Account Costs "
        f"Manager: gcloud billing accounts add-iam-policy-binding {account} --member={session.member} "
        "--role=roles/billing.costsManager",
    )
