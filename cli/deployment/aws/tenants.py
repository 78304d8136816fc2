"""The tenant port on AWS: see `cli.deployment.tenants`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aws_lambda.clients import EXPORT_REGIONS, Clients, new_run, own_account, warm_clients
from aws_lambda.errors import NOT_IN_ORGANIZATION
from aws_lambda.settings import AwsSettings, read_settings
from aws_lambda.state_store import S3Fleet
from aws_lambda.tenants import PAYER_LABEL, RULES, TRANSFER_LABEL, is_shared, payer_of
from cli.deployment.aws import tenant_check, tenant_role
from cli.deployment.aws.launch import quick_create
from cli.deployment.model import Finding
from cli.deployment.tenants import Invitation
from shared.errors import Permanent
from shared.parsing import is_tenant_id
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.state.store import Blob
from shared.tenants.registry import MAX_BYTES, Tenant
from shared.tenants.rows import REGISTRY

__all__ = ["RULES", "check", "discover", "documents", "invite", "registry_store", "remaining"]

READ_SECONDS = 120.0
LINK_SECONDS = 7 * 24 * 3600  # the longest life of a presigned link; it also ends with the operator's session
TEMPLATE_KEY = f"registry/{tenant_role.FILE}"


class _Deployment:
    """A deployment as an operator sees it: its settings, the account, and the clients of the operator."""

    def __init__(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> None:
        self.settings: AwsSettings = read_settings(environment)
        self.clients: Clients = warm_clients(self.settings, environment)
        self.run = new_run(self.settings, sink, clock, READ_SECONDS)

    def account(self) -> str:
        """Return the account of the operator's credentials. Raises ReportedError."""
        return own_account(self.clients, self.run)

    def fleet(self) -> S3Fleet:
        """Return the registry and the results of the tenants. Raises ReportedError."""
        return S3Fleet(self.settings, self.account(), self.clients, self.run)


class _Registry:
    """A RegistryStore: the document in the bucket of the deployment."""

    def __init__(self, fleet: S3Fleet, bucket: str) -> None:
        self._fleet = fleet
        self.place = f"s3://{bucket}/{fleet.key_of(REGISTRY)}"

    def load(self, limit: int = MAX_BYTES) -> Blob:
        return self._fleet.load(limit, REGISTRY)

    def save(self, data: bytes, version: str | None) -> str:
        return self._fleet.save(data, version, REGISTRY)


def registry_store(environment: Mapping[str, str], sink: Sink, clock: Clock) -> _Registry:
    """Open the deployment's registry."""
    found = _Deployment(environment, sink, clock)
    return _Registry(found.fleet(), found.settings.home_of(found.account()))


def documents(environment: Mapping[str, str], sink: Sink, clock: Clock) -> S3Fleet:
    """Open the rows and the reports of rounds."""
    return _Deployment(environment, sink, clock).fleet()


def check(
    tenant: Tenant, others: Sequence[Tenant], environment: Mapping[str, str], sink: Sink, clock: Clock
) -> list[Finding]:
    """Check entry, rights and destination, and that the role refuses a confused deputy."""
    found = _Deployment(environment, sink, clock)
    return tenant_check.check(tenant, others, environment, found.clients, found.run, found.account())


def invite(tenant: Tenant, environment: Mapping[str, str]) -> Invitation:
    """Return the stack of the tenant's role, as a link that prefills it and as a file."""
    settings = read_settings(environment)
    payer, view = payer_of(tenant), tenant.destination.get("billing_view", "")
    if not tenant.entry.get("role_arn"):
        text = (
            f"Nothing has to be launched for tenant {tenant.id}: account {payer}, which is the deployment's own, "
            f"exports the billing view {view}. The owner of the bills has accepted the transfer already."
        )
        return Invitation(text)
    secret = tenant.entry["external_id"]
    provider = secret.split(":")[4]
    role = tenant.entry["role_arn"].rpartition("/")[2]
    kind = "standalone" if view else tenant.entry.get("account_kind", "management")
    given = {
        "ProviderAccount": provider,
        "RoleName": role,
        "AccountKind": kind,
        "BucketName": "" if is_shared(tenant) else _bucket_of(tenant, payer),
        "BillingViewArn": view,
        "ExportCarbon": "true" if "carbon" in _datasets_of(tenant, settings) else "false",
        "StackSetName": _stackset_of(tenant, settings),
        "ConnectorRoleName": tenant.settings.get("CONNECTOR_ROLE_NAME", settings.connector_role),
        "AnnounceDeliveries": "true" if settings.deltas else "false",
        "Prefix": tenant.destination.get("prefix") or settings.home_prefix,
        "HomeRegion": EXPORT_REGIONS.get(settings.partition, settings.region),
    }
    name = secret.rpartition(":secret:")[2].rpartition("-")[0]
    text = (
        f"Send this to an administrator of account {payer}. The stack creates the role {role}, which this deployment "
        f"enters only with the External ID of {tenant.id}.\n"
        "1. Create the External ID, if there is none yet: aws secretsmanager create-secret --name "
        f'{name} --secret-string "$(openssl rand -hex 24)"\n'
        "2. Give it to the administrator by another way than this link: it is the parameter ExternalId.\n"
        f"3. The administrator signs in to {payer}, opens the link, enters the External ID and creates the stack. If "
        f"the link has expired, or CloudFormation cannot read its template, the file {tenant_role.FILE} is the same."
    )
    return Invitation(text, _link(settings, environment, provider, given), {tenant_role.FILE: tenant_role.published()})


def remaining(tenant: Tenant) -> list[str]:
    """Return what stays after a tenant's entry is removed, and how to remove it."""
    payer = payer_of(tenant)
    stays = [
        f"its exports in account {payer}: aws bcm-data-exports delete-export, for each one tagged tailpipe:managed-by",
        f"its state and reports in the deployment's bucket: state/tenants/{tenant.id}/ and runs/tenants/{tenant.id}/",
        f"its row there: state/rows/{tenant.id}.json",
    ]
    if is_shared(tenant):
        stays.insert(1, f"its data: the objects below {payer}/{tenant.id}/ under the prefix of the shared bucket")
    else:
        stays.insert(1, f"its data: the bucket {_bucket_of(tenant, payer)} in account {payer}")
    if tenant.entry.get("role_arn"):
        stays.append(f"the role {tenant.entry['role_arn']}: the tenant deletes its stack")
        stays.append(f"the External ID: aws secretsmanager delete-secret --secret-id {tenant.entry['external_id']}")
    return stays


def discover(environment: Mapping[str, str], sink: Sink, clock: Clock) -> list[Tenant]:
    """Return a proposal for each inbound billing transfer and for each billing view of one.

    A view is exported by the deployment's own account, so that its entry is complete; a transfer without a view yet
    lacks the role. An unhealthy view is proposed as paused.
    """
    found = _Deployment(environment, sink, clock)
    own = found.account()
    transfers = {str(one["Source"]["ManagementAccountId"]): one for one in _transfers(found)}
    proposals: list[Tenant] = []
    viewed: set[str] = set()
    for view in _views(found):
        payer = str(view.get("sourceAccountId", ""))
        viewed.add(payer)
        transfer = transfers.get(payer, {})
        name = str(transfer.get("Name") or view.get("name", ""))
        health = view.get("healthStatus") or {}
        reasons = ", ".join(map(str, health.get("statusReasons", []))) or str(health.get("statusCode", "HEALTHY"))
        unhealthy = health.get("statusCode", "HEALTHY") == "UNHEALTHY"
        proposals.append(
            Tenant(
                _id_of(name, payer, {one.id for one in proposals}),
                "aws",
                name,
                destination={"billing_view": str(view["arn"]), "bucket_owner": own},
                paused=unhealthy,
                labels={**_labels(payer, transfer), **({"billing-view": reasons} if unhealthy else {})},
            )
        )
    for payer, transfer in sorted(transfers.items()):
        if payer not in viewed:
            taken, name = {one.id for one in proposals}, str(transfer.get("Name", ""))
            proposals.append(Tenant(_id_of(name, payer, taken), "aws", name, labels=_labels(payer, transfer)))
    return proposals


def _labels(payer: str, transfer: Mapping[str, Any]) -> dict[str, str]:
    """Return by what the tenant of a transfer is recognized once it is in the registry."""
    known = {PAYER_LABEL: payer, TRANSFER_LABEL: str(transfer.get("Id", ""))}
    return {name: value for name, value in known.items() if value}


def _transfers(found: _Deployment) -> Iterator[Mapping[str, Any]]:
    """Yield the accepted inbound transfers; none for an account that manages no organization. Raises CloudError."""
    token: dict[str, Any] = {}
    call = found.clients.organizations.list_inbound_responsibility_transfers
    while True:
        try:
            page: Mapping[str, Any] = found.run.calls("organizations", call, Type="BILLING", **token)
        except Permanent as error:
            if error.code != NOT_IN_ORGANIZATION:
                raise
            return
        yield from (one for one in page.get("ResponsibilityTransfers", []) if one.get("Status") == "ACCEPTED")
        if not page.get("NextToken"):
            return
        token = {"NextToken": str(page["NextToken"])}


def _views(found: _Deployment) -> Iterator[Mapping[str, Any]]:
    """Yield the billing views of transfers. Raises CloudError."""
    token: dict[str, Any] = {}
    while True:
        call = found.clients.billing.list_billing_views
        page = found.run.calls("billing", call, billingViewTypes=["BILLING_TRANSFER"], **token)
        yield from page["billingViews"]
        if not page.get("nextToken"):
            return
        token = {"nextToken": str(page["nextToken"])}


def _id_of(name: str, payer: str, taken: set[str]) -> str:
    """Return an unused id for a tenant of this name, or of its account's id."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:27].strip("-")
    if not is_tenant_id(made):
        made = f"payer-{payer}"
    return made if made not in taken else f"{made}-{payer}"


def _datasets_of(tenant: Tenant, settings: AwsSettings) -> list[str]:
    """Return the datasets to export: those of the entry, else those of the deployment."""
    return [one.strip() for one in tenant.settings.get("EXPORTS", ",".join(settings.exports)).split(",")]


def _stackset_of(tenant: Tenant, settings: AwsSettings) -> str:
    """Return the StackSet of the member roles, "" for a tenant whose entry asks for none."""
    wanted = tenant.settings.get("TAILPIPE_PRINCIPAL_ARN")
    return tenant.settings.get("STACKSET_NAME", settings.stackset) if wanted else ""


def _bucket_of(tenant: Tenant, payer: str) -> str:
    return tenant.destination.get("bucket", "tailpipe-dataexport-{account}").replace("{account}", payer)


def _link(settings: AwsSettings, environment: Mapping[str, str], provider: str, given: Mapping[str, str]) -> str:
    """Return the quick-create link. The template is read by a link that is signed here, without a call."""
    where = {"Bucket": settings.home_of(provider), "Key": TEMPLATE_KEY}
    signed = warm_clients(settings, environment).s3.generate_presigned_url("get_object", where, LINK_SECONDS)
    return quick_create(settings.region, signed, "tailpipe-exports-tenant", given)
