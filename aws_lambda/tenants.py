"""Tenants on AWS: payers that the deployment enters by a role with an External ID, and billing views that it sees."""

from __future__ import annotations

from collections.abc import Iterator

from aws_lambda.settings import ACCOUNT, ROLE_ARN, SECRET_ARN, VIEW_ARN, AwsSettings, account_of
from shared.errors import SettingsError
from shared.tenants.registry import Field, Rules, Tenant, TenantRegistry

_PARTITION = "aws[a-z-]*"
ENTRY = {
    "role_arn": Field("ENTRY_ROLE_ARN", ROLE_ARN.format(partition=_PARTITION), "the ARN of a role in the payer"),
    "external_id": Field(
        "ENTRY_EXTERNAL_ID",
        SECRET_ARN.format(partition=_PARTITION),
        "the ARN of the secret in Secrets Manager that holds the External ID",
        reference=True,
    ),
    "account_kind": Field("ACCOUNT_KIND", "management|standalone", "management or standalone"),
}
DESTINATION = {
    "bucket": Field("DESTINATION_BUCKET", r"[a-z0-9{][a-z0-9.{}-]{1,61}[a-z0-9}]", "a bucket's name"),
    "bucket_region": Field("DESTINATION_REGION", r"[a-z]{2,5}(-[a-z]+)+-\d", "a region of AWS"),
    "bucket_owner": Field(
        "DESTINATION_OWNER", ACCOUNT, "an account id of 12 digits: the deployment's own to share its bucket"
    ),
    "prefix": Field("DESTINATION_PREFIX", r"[A-Za-z0-9!_.*'()/-]{1,256}", "a key prefix"),
    "billing_view": Field("BILLING_VIEW_ARN", VIEW_ARN.format(partition=_PARTITION), "the ARN of a billing view"),
}
# Labels of a discovered tenant: an entry for a billing view names neither its payer nor its transfer.
PAYER_LABEL, TRANSFER_LABEL = "payer", "transfer"
# What an entry may override. Endpoints, credentials, and where state, reports and messages go are the deployment's.
OVERRIDES = frozenset(
    {
        "CALL_BUDGET",
        "CONNECTOR_ROLE_NAME",
        "EXCLUDE_ACCOUNTS",
        "EXPORTS",
        "EXTERNAL_ID_HASH",
        "INCLUDE_ACCOUNTS",
        "INCLUDE_OUS",
        "KMS_KEY_ARN",
        "MAX_VANISHED_PERCENT",
        "MAX_WRITES_PER_RUN",
        "MEMBER_ROLE_NAME",
        "STACKSET_NAME",
        "STALE_MAX_HOURS",
        "STALE_MIN_HOURS",
        "TAILPIPE_PRINCIPAL_ARN",
    }
)
# They select accounts, roles and keys of the deployment's own organization.
OWN = frozenset(
    {
        "EXCLUDE_ACCOUNTS",
        "EXTERNAL_ID_HASH",
        "INCLUDE_ACCOUNTS",
        "INCLUDE_OUS",
        "KMS_KEY_ARN",
        "TAILPIPE_PRINCIPAL_ARN",
    }
)


def payer_of(tenant: Tenant) -> str:
    """Return the account of a tenant's exports: that of its role, or the owner of its bucket without a role."""
    return account_of(tenant.entry.get("role_arn", "")) or tenant.destination.get("bucket_owner", "")


def is_shared(tenant: Tenant) -> bool:
    """Return whether a tenant's exports deliver into the deployment's own bucket."""
    role = tenant.entry.get("role_arn", "")
    return not role or tenant.destination.get("bucket_owner", "") not in ("", account_of(role))


def accounts_to_grant(registry: TenantRegistry) -> set[str]:
    """Return the payers whose exports deliver into the deployment's bucket; those of paused tenants too."""
    return {payer_of(tenant) for tenant in registry.tenants.values() if is_shared(tenant)}


def check_destination(settings: AwsSettings, account: str) -> None:
    """Raise SettingsError if a tenant's run could disturb the deployment in `account`, or could not deliver."""
    problems = []
    payer = account_of(settings.entry_role) or settings.bucket_owner
    if settings.shared_bucket and settings.bucket_owner != account:
        problems.append(
            f"DESTINATION_OWNER: {settings.bucket_owner} is neither the payer nor {account}, the account of the "
            "deployment; exports deliver into a bucket of one of these"
        )
    if payer == account and not settings.billing_view:
        problems.append(
            f"ENTRY_ROLE_ARN: the runs without a tenant already keep the exports of {account}, the account of the "
            "deployment; remove the entry, or name a billing view"
        )
    if problems:
        raise SettingsError(problems)


def _identity(tenant: Tenant) -> str:
    view = tenant.destination.get("billing_view", "")
    return f"billing view {view}" if view else f"payer {payer_of(tenant)}"


def _known_as(tenant: Tenant) -> Iterator[str]:
    """Yield the payer, the billing view and the transfer of an entry: one of them is enough to recognize a tenant."""
    yield account_of(tenant.entry.get("role_arn", "")) or ""
    yield tenant.destination.get("billing_view", "")
    yield from (tenant.labels.get(name, "") for name in (PAYER_LABEL, TRANSFER_LABEL))


def _further(tenant: Tenant) -> Iterator[str]:
    """Yield what is wrong with an entry whose fields are valid by themselves."""
    role, secret = tenant.entry.get("role_arn", ""), tenant.entry.get("external_id", "")
    view, owner = tenant.destination.get("billing_view", ""), tenant.destination.get("bucket_owner", "")
    if bool(role) != bool(secret):
        yield "'entry': role_arn and external_id belong together: without an External ID others could enter the payer"
    if not role and not view:
        yield "'entry': role_arn is required, unless destination.billing_view names a view of the deployment's account"
    if not role and not owner:
        yield "'destination': bucket_owner is required without role_arn: the account that sees the billing view"
    if view and tenant.entry.get("account_kind") == "management":
        yield "'entry': account_kind is standalone for a billing view: member roles belong to the payer itself"
    if is_shared(tenant):
        own = [name for name in ("bucket", "bucket_region", "prefix") if tenant.destination.get(name)]
        if own:
            yield f"'destination': {', '.join(own)} cannot be chosen in the deployment's own bucket; leave it out"
    partitions = {value.split(":")[1] for value in (role, secret, view) if value}
    if len(partitions) > 1:
        yield f"its ARNs are in several partitions ({', '.join(sorted(partitions))}); a deployment serves only its own"


RULES = Rules(
    cloud="aws",
    entry=ENTRY,
    destination=DESTINATION,
    settings=OVERRIDES,
    own=OWN,
    identity=_identity,
    unique=("external_id",),
    further=_further,
    known_as=_known_as,
)
