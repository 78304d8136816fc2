"""The tenant port on Google Cloud: the registry of organizations, and what lets the function impersonate an account."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cli.deployment.gcp.rest import Google, signed_in
from cli.deployment.gcp.tenant_rights import Right, rights_of
from cli.deployment.model import Finding
from cli.deployment.tenants import Invitation
from gcp_function.claims import claims_beside, named_accounts, organization_of
from gcp_function.clients import RATES, Clients
from gcp_function.errors import translate
from gcp_function.scopes import top_parent
from gcp_function.settings import GcpSettings, read_settings
from gcp_function.state_store import GcsFleet
from gcp_function.tenant_clients import TenantClients
from gcp_function.tenants import RULES
from shared.errors import CloudError, ReportedError, Unreachable
from shared.parsing import is_tenant_id
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.state.store import Blob
from shared.tenants.registry import Tenant, environment_of
from shared.tenants.rows import REGISTRY

__all__ = ["RULES", "check", "discover", "documents", "invite", "registry_store", "remaining"]

SECONDS = 600.0
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 - the name of a role, not a secret
SCRIPT = "admit.sh"


class BucketRegistry:
    """The registry's object, as an operator reads and writes it."""

    def __init__(self, settings: GcpSettings, fleet: GcsFleet) -> None:
        self._settings, self._fleet = settings, fleet

    @property
    def place(self) -> str:
        return f"gs://{self._settings.registry_bucket}/{REGISTRY}"

    def load(self, limit: int) -> Blob:
        return self._fleet.load(limit, REGISTRY)

    def save(self, data: bytes, version: str | None) -> str:
        return self._fleet.save_registry(data, version)


def registry_store(environment: Mapping[str, str], sink: Sink, clock: Clock) -> BucketRegistry:
    """Open the deployment's registry, with the operator's credentials."""
    settings, clients, run = _opened(environment, sink, clock)
    return BucketRegistry(settings, GcsFleet(settings, clients, run))


def documents(environment: Mapping[str, str], sink: Sink, clock: Clock) -> GcsFleet:
    """Open the rows and the reports of rounds, with the operator's credentials."""
    return GcsFleet(*_opened(environment, sink, clock))


def _opened(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[GcpSettings, Clients, RunContext]:
    settings = read_settings(environment).at_home()
    run = RunContext("gcp", settings.engine, sink, clock, SECONDS, RATES, translate)
    return settings, Clients(settings, signed_in(settings.project)), run


def check(
    tenant: Tenant, others: Sequence[Tenant], environment: Mapping[str, str], sink: Sink, clock: Clock
) -> list[Finding]:
    """Check that the tenant lets its account be impersonated, by those that it names only, and what that may do.

    The caller impersonates with its own credentials, which the tenant may not have admitted: then only the policy of
    the account says whether the function is.
    """
    own, clients, run = _opened(environment, sink, clock)
    settings = read_settings(environment_of(tenant, {**environment, **_home(own)}, RULES))
    entered = TenantClients(settings, clients)
    try:
        try:
            entered.enter(run)
        except Unreachable as refused:
            remedy = "Only the function has to be admitted; grant it to yourself too to check the rest from here."
            return [
                Finding(f"entry of {tenant.id}", ok=None, detail=refused.message, remedy=remedy),
                _policy(tenant, own.project),
            ]
        except ReportedError as error:
            return [Finding(f"entry of {tenant.id}", ok=False, detail=error.message, remedy=error.remedy)]
        found = [Finding(f"entry of {tenant.id}", ok=True, detail=f"{settings.service_account} can be impersonated")]
        found.append(_policy(tenant, own.project))
        found += [_held(settings, right, entered, run) for right in rights_of(tenant) if right.testable]
        found.append(_sole(tenant, settings, [one for one in others if one.id != tenant.id], entered, clients, run))
        return found + [_stranger(settings, other, entered, run) for other in others if other.id != tenant.id]
    finally:
        entered.close()
        clients.close()


def _home(own: GcpSettings) -> dict[str, str]:
    return {
        "HOME_PROJECT": own.project,
        "STATE_BUCKET": own.state_bucket,
        "REGISTRY_BUCKET": own.registry_bucket,
    }


def _policy(tenant: Tenant, home: str) -> Finding:
    """Check with the operator's credentials that the policy of the account admits no caller by a wildcard."""
    account = tenant.entry["service_account"]
    title = f"who may impersonate the account of {tenant.id}"
    try:
        policy = Google(home).post("iam", f"v1/projects/-/serviceAccounts/{account}:getIamPolicy")
    except ReportedError as error:
        return Finding(title, ok=None, detail=error.message, remedy="Ask the tenant, which may read the policy.")
    members = {one for binding in policy.get("bindings", ()) for one in binding.get("members", ())}
    wide = sorted(one for one in members if one in ("allUsers", "allAuthenticatedUsers") or one.endswith("/*"))
    if wide:
        remedy = f"Have the tenant remove them from the policy of {account}: anybody could enter it in our place."
        return Finding(title, ok=False, detail=f"its policy admits {', '.join(wide)}", remedy=remedy)
    return Finding(title, ok=True, detail="its policy names its members one by one")


def _held(settings: GcpSettings, right: Right, clients: Clients, run: RunContext) -> Finding:
    """Check, as the tenant's account, that it has permissions; each right has fewer than one call may ask for."""
    title, asked = f"{right.id} on {right.place}", list(right.permissions)
    try:
        if right.scope == "export_bucket":
            path = f"storage/v1/b/{settings.bucket}/iam/testPermissions"
            answer = run.calls("storage", clients.get, "storage", path, {"permissions": asked})
        else:
            path = f"v1/projects/{settings.project}:testIamPermissions"
            answer = run.calls(
                "cloudresourcemanager", clients.post, "cloudresourcemanager", path, {"permissions": asked}
            )
    except CloudError as error:
        return Finding(title, ok=False, detail=error.message, remedy=error.remedy)
    missing = [one for one in asked if one not in answer.get("permissions", ())]
    if missing:
        remedy = "Have the tenant run the script of tailpipe-exports tenants invite again."
        return Finding(title, ok=False, detail=f"lacks {', '.join(missing)}", remedy=remedy)
    return Finding(title, ok=True, detail=right.why)


def _sole(
    tenant: Tenant, settings: GcpSettings, others: Sequence[Tenant], entered: Clients, own: Clients, run: RunContext
) -> Finding:
    """Check that no billing account of the tenant is also another one's.

    An entry that names neither an organization nor accounts serves what its service account sees: those are entered.
    """
    title = f"no other tenant has a billing account of {tenant.id}"
    claims = claims_beside(tenant.id, others)
    shared: dict[str, str] = {}
    try:
        mine = _served(settings, entered, run)
        for account, organization in mine.items():
            if account not in settings.include_accounts:
                other = claims.tenant_of(account, organization, named=bool(settings.organization))
                shared |= {account: other} if other else {}
        for one in others:
            if named_accounts(one) or organization_of(one):
                continue
            theirs = msgspec.structs.replace(
                read_settings(environment_of(one, _home(settings.at_home()), RULES)), endpoints=settings.endpoints
            )
            clients = TenantClients(theirs, own)
            try:
                clients.enter(run)
                shared |= dict.fromkeys(sorted(mine.keys() & _served(theirs, clients, run).keys()), one.id)
            except Unreachable:
                continue  # its own check reports it
            finally:
                clients.close()
    except CloudError as error:
        return Finding(title, ok=False, detail=error.message, remedy=error.remedy)
    if not shared:
        return Finding(title, ok=True, detail=f"{len(mine)} billing accounts are this tenant's only")
    (account, other), more = next(iter(shared.items())), len(shared) - 1
    detail = f"billing account {account}" + (f" and {more} more" if more else "") + f": also of tenant {other}"
    remedy = "Leave it out of one of them with EXCLUDE_ACCOUNTS (tenants add --set), or name it in one entry only."
    return Finding(title, ok=False, detail=detail, remedy=remedy)


def _served(settings: GcpSettings, clients: Clients, run: RunContext) -> dict[str, str]:
    """Return the open billing accounts that a tenant's run would serve, each with its organization if it is visible."""
    listed = list(_visible(clients, run))
    parents = {str(one["name"]): str(one.get("parent") or "") for one in listed}
    found = {str(one["name"]).rpartition("/")[2]: top_parent(one, parents) for one in listed}
    named = settings.include_accounts
    return {
        account: organization
        for account, organization in found.items()
        if account not in settings.exclude_accounts
        and (account in named if named else settings.organization in ("", organization) or not organization)
    }


def _stranger(settings: GcpSettings, other: Tenant, clients: Clients, run: RunContext) -> Finding:
    """Check that the account of this tenant cannot read the exports of another one."""
    bucket = other.destination.get("bucket") or f"tailpipe-billing-export-{other.destination['project']}"
    title = f"{settings.tenant} cannot read {other.id}"
    try:
        run.calls("storage", clients.get, "storage", f"storage/v1/b/{bucket}/o", {"maxResults": 1})
    except CloudError:
        return Finding(title, ok=True, detail=f"its account is refused at {bucket}")
    remedy = f"Remove {settings.service_account} from the permissions of bucket {bucket}."
    return Finding(title, ok=False, detail=f"its account lists {bucket}", remedy=remedy)


def invite(tenant: Tenant, environment: Mapping[str, str]) -> Invitation:
    """Return the script that creates the tenant's service account, its permissions, and the grant that admits us."""
    home = read_settings(environment).at_home().project
    function = f"tailpipe-function@{home}.iam.gserviceaccount.com"
    account, project = tenant.entry["service_account"], tenant.destination["project"]
    return Invitation(
        f"For an owner of project {project}"
        + (f" and an administrator of {_organization(tenant)}" if tenant.entry.get("organization") else "")
        + f": run it in Cloud Shell, after reading it:\nbash {SCRIPT}\n"
        "It creates a service account without a key, grants it what keeps billing exports alive, and lets "
        f"{function} impersonate it. To end it, remove that one grant:\n"
        f"gcloud iam service-accounts remove-iam-policy-binding {account} --member=serviceAccount:{function} "
        f"--role={TOKEN_CREATOR}",
        files={SCRIPT: "\n".join(_script(tenant, function)) + "\n"},
    )


def _script(tenant: Tenant, function: str) -> Iterator[str]:
    """Yield the commands that admit the function; run again, they change nothing."""
    account, project = tenant.entry["service_account"], tenant.destination["project"]
    name, _, host = account.partition("@")
    own_project = host.partition(".")[0]
    member = f"serviceAccount:{account}"
    yield "#!/usr/bin/env bash"
    yield "# Admits Tailpipe Exports: a service account, its permissions, and who may impersonate it."
    yield "set -euo pipefail"
    apis = ["iamcredentials", "bigquery", "storage", "cloudbilling", "cloudresourcemanager", "serviceusage"]
    yield f"gcloud services enable --project={own_project} " + " ".join(f"{one}.googleapis.com" for one in apis)
    yield f"gcloud iam service-accounts describe {account} --project={own_project} >/dev/null 2>&1 ||"
    yield f"  gcloud iam service-accounts create {name} --project={own_project} --display-name='Tailpipe Exports'"
    for right in rights_of(tenant):
        role = right.role
        if not role:
            role = f"projects/{project}/roles/tailpipeExports{right.id}"
            listed = ",".join(right.permissions)
            flags = f"tailpipeExports{right.id} --project={project} --quiet --permissions={listed}"
            yield f"gcloud iam roles create {flags} >/dev/null 2>&1 || gcloud iam roles update {flags} >/dev/null"
        condition = f" --condition={shlex.quote(right.condition)}" if right.condition else ""
        yield f"{right.command} --member={member} --role={role}{condition} >/dev/null"
    yield f"gcloud iam service-accounts add-iam-policy-binding {account} --project={own_project} \\"
    yield f"  --member=serviceAccount:{function} --role={TOKEN_CREATOR} >/dev/null"


def remaining(tenant: Tenant) -> list[str]:
    """Return what stays after a tenant's entry is removed, each with how to remove it."""
    account, project = tenant.entry["service_account"], tenant.destination["project"]
    return [
        "its billing exports go on delivering: they are switched off in the Cloud console, for each billing account",
        f"the delivered data stays in project {project}: its dataset and its bucket of copies",
        f"the function may still enter: gcloud iam service-accounts delete {account}",
        f"its state stays in the state bucket, below tenants/{tenant.id}/; a tenant of this id continues there",
    ]


def discover(environment: Mapping[str, str], sink: Sink, clock: Clock) -> list[Tenant]:
    """Return a proposal for each organization, or reseller's sub-account, whose billing accounts the operator sees.

    The deployment's own organization is left out. What a proposal lacks is the service account and the project.
    """
    settings, clients, run = _opened(environment, sink, clock)
    found: dict[str, Tenant] = {}
    try:
        for account in _visible(clients, run):
            identifier = str(account["name"]).rpartition("/")[2]
            parent, master = str(account.get("parent") or ""), str(account.get("masterBillingAccount") or "")
            organization = parent if parent.startswith("organizations/") and not master else ""
            if organization and organization == settings.organization:
                continue
            shown = str(account.get("displayName", ""))
            entry = {"organization": organization} if organization else {"billing_accounts": identifier}
            key = organization or identifier
            chosen = _id_of(shown, key)
            found.setdefault(key, Tenant(chosen, "gcp", shown[:120], entry=entry))
    finally:
        clients.close()
    return list(found.values())


def _visible(clients: Clients, run: RunContext) -> Iterator[dict[str, Any]]:
    token = ""
    while True:
        given = {"pageSize": 100, **({"pageToken": token} if token else {})}
        page = run.calls("cloudbilling", clients.get, "cloudbilling", "v1/billingAccounts", given)
        yield from (one for one in page.get("billingAccounts", ()) if one.get("open"))
        token = str(page.get("nextPageToken", ""))
        if not token:
            return


def _organization(tenant: Tenant) -> str:
    return f"organizations/{tenant.entry['organization'].removeprefix('organizations/')}"


def _id_of(name: str, key: str) -> str:
    """Return an id for the registry, made of an account's name and the end of its id, so that it is its own."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].strip("-")
    end = re.sub(r"[^a-z0-9]", "", key.lower())[-6:]
    made = f"{plain}-{end}" if plain else f"tenant-{end}"
    return made if is_tenant_id(made) else f"tenant-{end}"
