"""Read the AWS function's settings from environment variables, and report every problem before any call is made.

The module is over 350 lines because all settings are described, read and checked in one place.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Protocol

import boto3.session
import botocore.session
import msgspec
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader, create_loader

from shared.parsing import digits
from shared.settings import EngineSettings, Reader

DATASETS = ("cur2", "focus", "carbon")
ENDPOINT_SERVICES = (
    "BCM_DATA_EXPORTS",
    "CLOUDFORMATION",
    "IAM",
    "ORGANIZATIONS",
    "S3",
    "SECRETS_MANAGER",
    "SNS",
    "STS",
)

# Tailpipe's own roles, which assume the connector roles. A role of another partition cannot trust them.
TAILPIPE_PRINCIPALS = {
    "prod": "arn:aws:iam::336268260260:role/TailpipeConnector-Prod",
    "uat": "arn:aws:iam::336268260260:role/TailpipeConnector-UAT",
}

ACCOUNT = r"\d{12}"
TENANT_ID = r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
# Forms of ARNs, to be completed by a pattern of the partition. Sources: "IAM identifiers" in the IAM User Guide, and
# BillingViewArn in the AWS Billing API reference.
ROLE_ARN = r"arn:{partition}:iam::\d{{12}}:role/[\w+=,.@/-]{{1,576}}"
SECRET_ARN = r"arn:{partition}:secretsmanager:[a-z0-9-]+:\d{{12}}:secret:[\w/+=.@-]{{1,512}}"  # noqa: S105 - a form of ARNs
VIEW_ARN = r"arn:{partition}:billing::\d{{12}}:billingview/[a-zA-Z0-9/:_+=.@-]{{0,75}}[a-zA-Z0-9]"
TENANT_SETTINGS = (
    "ENTRY_ROLE_ARN",
    "ENTRY_EXTERNAL_ID",
    "BILLING_VIEW_ARN",
    "DESTINATION_OWNER",
    "DESTINATION_BUCKET",
    "DESTINATION_REGION",
    "DESTINATION_PREFIX",
)
RESERVED = ("state", "runs", "registry")  # what the deployment keeps in its bucket beside the exports
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_ROLE = r"[\w+=,.@-]{1,64}"
_STACKSET = r"[A-Za-z][A-Za-z0-9-]{0,127}"
_PARENT = r"r-[a-z0-9]{4,32}|ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}"
_HASH = r"[0-9a-f]{16,128}:[0-9a-f]{64}"


# What each setting does; docs/settings.md is generated from this and from the code.
EFFECTS = {
    "AWS_REGION": "The function's region; Lambda sets it.",
    "ACCOUNT_KIND": "`management`: the whole organization. `standalone`: only this account, without member roles.",
    "BUCKET_NAME": "The bucket to which exports are delivered; `{account}` stands for the function's account id.",
    "BUCKET_REGION": "The bucket's region.",
    "EXPORT_PREFIX": "The key prefix of delivered exports.",
    "EXPORTS": "The datasets to export.",
    "INCLUDE_ACCOUNTS": "Member accounts that get the member role, with those of INCLUDE_OUS; both empty: all.",
    "EXCLUDE_ACCOUNTS": "Member accounts that get no member role.",
    "INCLUDE_OUS": "OUs or roots whose accounts get the member role, with INCLUDE_ACCOUNTS.",
    "STACKSET_NAME": "The StackSet that creates the member roles.",
    "MEMBER_ROLE_NAME": "The role that Tailpipe assumes in member accounts.",
    "CONNECTOR_ROLE_NAME": "The role that Tailpipe assumes in this account.",
    "TAILPIPE_ENVIRONMENT": "The Tailpipe environment, which sets the default of TAILPIPE_PRINCIPAL_ARN.",
    "TAILPIPE_PRINCIPAL_ARN": "The principal that the roles trust; empty: no roles. No default outside `aws`.",
    "EXTERNAL_ID_HASH": "Salted hashes of the accepted External IDs, used to detect a changed trust policy.",
    "KMS_KEY_ARN": "The KMS key that encrypts the bucket; empty: encryption with S3-managed keys.",
    "NOTIFY_URL": "The secret in Secrets Manager that holds the webhook's address, by its ARN; empty: no messages.",
    "DELTAS": "1: each delivery is announced by a document of what changed, beside the exports.",
    "DELIVERY_TOPIC": "The SNS FIFO topic, by its ARN, on which these documents are published; empty: on none.",
    "TENANT": "The id of the tenant of a run. This and the next seven are set by the tenant's entry in the registry.",
    "ENTRY_ROLE_ARN": "The role in the tenant's payer that the function assumes.",
    "ENTRY_EXTERNAL_ID": "The secret in Secrets Manager that holds the External ID of this role, by its ARN.",
    "BILLING_VIEW_ARN": "The billing view to export; empty: the payer's own costs.",
    "DESTINATION_BUCKET": "The bucket of the tenant's exports; `{account}` stands for its owner's account id.",
    "DESTINATION_REGION": "The region of this bucket.",
    "DESTINATION_PREFIX": "The key prefix of the exports in the tenant's own bucket.",
    "DESTINATION_OWNER": "The account that owns this bucket: the payer, or the deployment's own account.",
    "AWS_ENDPOINT_URL": "The endpoint of all services, for local clouds; `AWS_ENDPOINT_URL_S3` etc. for one service.",
}


class AwsSettings(msgspec.Struct, frozen=True):
    """The settings of the AWS function.

    With `account_kind` ``standalone`` the function manages only its own account, even in an organization: its exports,
    and no member roles. `bucket` may contain ``{account}``, which `bucket_of` replaces. `exports` lists datasets.
    `include_accounts` and `include_ous` (roots or OUs, including nested OUs) together select the member accounts, all
    if both are empty; `exclude_accounts` removes some of them. The function's own account is always included. With an
    empty `principal` there are no connector and member roles. `external_id_hash` is ``salt:sha256(salt + external
    id)`` in hexadecimal, never the External ID itself; several are separated by commas while an External ID is
    rotated. `endpoints` maps a service ("" for all) to a loopback address. `notify_url` is the ARN of the secret with
    the webhook's address, never the address itself. With `deltas`, deliveries are written as documents, and published
    on the topic `delivery_topic` unless that is empty.

    For a run of a `tenant`, bucket and prefix are its destination, while state and reports stay in `home_bucket`.
    `entry_role` is entered with the External ID in the secret `entry_secret`; without a role, the deployment's own
    account exports the `billing_view`. `bucket_owner` is the bucket's account if it is not that of the exports, and
    with `shared_bucket` the bucket is the deployment's own.
    """

    region: str
    partition: str
    account_kind: str
    bucket: str
    bucket_region: str
    prefix: str
    exports: tuple[str, ...]
    include_accounts: tuple[str, ...]
    exclude_accounts: tuple[str, ...]
    include_ous: tuple[str, ...]
    stackset: str
    member_role: str
    connector_role: str
    principal: str
    external_id_hash: str
    kms_key: str
    engine: EngineSettings
    endpoints: Mapping[str, str]
    notify_url: str = ""
    deltas: bool = False
    delivery_topic: str = ""
    tenant: str = ""
    entry_role: str = ""
    entry_secret: str = ""
    billing_view: str = ""
    bucket_owner: str = ""
    shared_bucket: bool = False
    home_bucket: str = ""
    home_region: str = ""
    home_prefix: str = ""

    def bucket_of(self, account: str) -> str:
        """Return the name of the bucket to which the exports of `account` are delivered."""
        return self.bucket.replace("{account}", self.owner_of_bucket(account))

    def owner_of_bucket(self, account: str) -> str:
        """Return the account that owns the bucket to which the exports of `account` are delivered."""
        return self.bucket_owner or account

    def home_of(self, account: str) -> str:
        """Return the name of the bucket in which the deployment in `account` keeps state and reports."""
        return self.home_bucket.replace("{account}", account)

    def at_home(self) -> AwsSettings:
        """Return the settings with the deployment's own bucket in place of a tenant's."""
        return msgspec.structs.replace(
            self, bucket=self.home_bucket, bucket_region=self.home_region, prefix=self.home_prefix, bucket_owner=""
        )

    def external_id_matches(self, external_id: str) -> bool:
        """Return whether an External ID matches one of the configured hashes."""
        return any(_has_hash(external_id, given) for given in self.external_id_hash.split(","))


@cache
def _loader() -> Loader:
    return create_loader()


class Resolver(Protocol):
    """Where a session takes its credentials from, as botocore calls it."""

    def load_credentials(self) -> Credentials:
        """Return the credentials."""
        ...


def session_of(resolver: Resolver) -> boto3.session.Session:
    """Return a session with the credentials of `resolver`, and of nothing else that the SDK would look at."""
    core = _core()
    core.register_component("credential_provider", resolver)
    return boto3.session.Session(botocore_session=core)


def _core() -> botocore.session.Session:
    """Return a session that reuses the loaded service models: parsing them takes most of a cold start."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _loader())
    return core


def new_session(**credentials: str | None) -> boto3.session.Session:
    """Return a session that reuses the loaded service models.

    `credentials` are arguments of `boto3.session.Session`: a profile, or an access key with its secret and token.
    """
    core = _core()
    return boto3.session.Session(botocore_session=core, **credentials)


def partition_of(region: str) -> str:
    """Return the partition of `region` according to the SDK, "" for an unknown region."""
    try:
        return _partition_of(region)
    except BotoCoreError:
        return ""


@lru_cache(64)  # it takes a session, and every invocation asks for the function's own region
def _partition_of(region: str) -> str:
    return str(new_session().get_partition_for_region(region))


def account_of(arn: str) -> str | None:
    """Return the account id in a function's ARN, or None."""
    fields = arn.split(":")
    return digits(fields[4], 12) if len(fields) > 4 else None


def read_settings(environment: Mapping[str, str]) -> AwsSettings:
    """Return the settings, without a call. Raises SettingsError with every problem."""
    reader = Reader(environment)
    regions = {"AWS_REGION": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""}
    region = Reader(regions).text("AWS_REGION", "")
    partition = partition_of(region) if region else ""
    if not region:
        reader.problem("AWS_REGION", "is required: the function's region, such as eu-west-1")
    elif not partition:
        reader.problem("AWS_REGION", f"{region[:80]!r} is not an AWS region")
    tenant = reader.text("TENANT", "", TENANT_ID, "the id of a tenant")
    home_bucket = _bucket(reader, "BUCKET_NAME")
    home_prefix = _prefix(reader, "EXPORT_PREFIX", "dataexport")
    home_region = _bucket_region(reader, "BUCKET_REGION", region, partition)
    settings = AwsSettings(
        region=region,
        partition=partition,
        account_kind=reader.choice("ACCOUNT_KIND", "management", ("management", "standalone")),
        bucket=home_bucket,
        bucket_region=home_region,
        home_bucket=home_bucket,
        home_region=home_region,
        prefix=home_prefix,
        home_prefix=home_prefix,
        exports=reader.choices("EXPORTS", "cur2", DATASETS),
        include_accounts=reader.items("INCLUDE_ACCOUNTS", "", ACCOUNT, "an account id of 12 digits"),
        exclude_accounts=reader.items("EXCLUDE_ACCOUNTS", "", ACCOUNT, "an account id of 12 digits"),
        include_ous=reader.items("INCLUDE_OUS", "", _PARENT, "the id of an OU (ou-…) or root (r-…)"),
        stackset=reader.text("STACKSET_NAME", "Tailpipe-CloudWatch-Child-StackSet", _STACKSET, "a StackSet's name"),
        member_role=reader.text("MEMBER_ROLE_NAME", "tailpipe-child-connector", _ROLE, "a role's name"),
        connector_role=reader.text("CONNECTOR_ROLE_NAME", "tailpipe-connector-role", _ROLE, "a role's name"),
        principal=_principal(reader, partition, {} if tenant else TAILPIPE_PRINCIPALS),
        external_id_hash=reader.text(
            "EXTERNAL_ID_HASH",
            "",
            f"{_HASH}(,{_HASH})*",
            "<salt>:<sha256>, both in lower-case hexadecimal, or several of them separated by commas",
            secret=True,
        ),
        kms_key=_kms_key(reader, partition),
        engine=reader.engine(call_budget=0),
        endpoints=_endpoints(reader),
        notify_url=_secret(reader, "NOTIFY_URL", partition),
        deltas=reader.number("DELTAS", 0, 0, 1) == 1,
        delivery_topic=_topic(reader, partition),
    )
    salts = [given.partition(":")[0] for given in settings.external_id_hash.split(",")]
    even = all(len(salt) % 2 == 0 for salt in salts)
    reader.check(even, "EXTERNAL_ID_HASH", "a salt has an odd number of hexadecimal digits")
    both = sorted(set(settings.include_accounts) & set(settings.exclude_accounts))
    reader.check(not both, "EXCLUDE_ACCOUNTS", lambda: f"{', '.join(both)} is also in INCLUDE_ACCOUNTS")
    reader.check(
        settings.deltas or not settings.delivery_topic,
        "DELIVERY_TOPIC",
        "deliveries are published only with DELTAS=1; set that too, or unset DELIVERY_TOPIC",
    )
    settings = _for_tenant(reader, settings, tenant)
    reader.finish()
    return settings


def _for_tenant(reader: Reader, settings: AwsSettings, tenant: str) -> AwsSettings:
    """Return the settings with what the entry of a tenant sets; without a tenant, none of that may be set."""
    partition = settings.partition or "aws[a-z-]*"
    role = reader.text("ENTRY_ROLE_ARN", "", ROLE_ARN.format(partition=partition), f"a role's ARN in {partition}")
    secret = _secret(reader, "ENTRY_EXTERNAL_ID", settings.partition)
    view = reader.text("BILLING_VIEW_ARN", "", VIEW_ARN.format(partition=partition), "the ARN of a billing view")
    owner = reader.text("DESTINATION_OWNER", "", ACCOUNT, "an account id of 12 digits")
    given = reader.text("DESTINATION_BUCKET"), reader.text("DESTINATION_REGION"), reader.text("DESTINATION_PREFIX")
    if not tenant:
        for name, value in zip(TENANT_SETTINGS, (role, secret, view, owner, *given), strict=True):
            reader.check(not value, name, "only a run for a tenant has it; unset it, or set TENANT too")
        return settings
    payer = account_of(role) or owner
    shared = not role or owner not in ("", payer)
    if shared:
        # The bucket policy lets an account write below its own id only, whatever prefix its exports name.
        bucket, region, prefix = settings.home_bucket, settings.home_region, f"{settings.prefix}/{payer}/{tenant}"
        reader.check(given[0] in ("", bucket), "DESTINATION_BUCKET", f"only {bucket} may be shared; leave it out")
        reader.check(given[1] in ("", region), "DESTINATION_REGION", f"the shared bucket is in {region}; leave it out")
        reader.check(not given[2], "DESTINATION_PREFIX", "the deployment chooses it in a shared bucket; leave it out")
    else:
        bucket = _bucket(reader, "DESTINATION_BUCKET")
        region = _bucket_region(reader, "DESTINATION_REGION", settings.region, settings.partition)
        prefix = _prefix(reader, "DESTINATION_PREFIX", settings.prefix)
    reader.check(bool(role) == bool(secret), "ENTRY_EXTERNAL_ID", "a role and its External ID belong together")
    reader.check(bool(role or view), "ENTRY_ROLE_ARN", "is required, unless BILLING_VIEW_ARN is set")
    reader.check(bool(payer), "DESTINATION_OWNER", "is required without a role: the account that sees the billing view")
    kind = "standalone" if view else settings.account_kind
    # Source: "Data Exports table dictionary": only this table has the property BILLING_VIEW_ARN.
    fits = not view or settings.exports == ("cur2",)
    reader.check(fits, "EXPORTS", "AWS exports billing views only from cur2; leave the others out")
    return msgspec.structs.replace(
        settings,
        tenant=tenant,
        account_kind=kind,
        bucket=bucket,
        bucket_region=region,
        prefix=prefix,
        entry_role=role,
        entry_secret=secret,
        billing_view=view,
        bucket_owner=owner,
        shared_bucket=shared,
    )


def _has_hash(external_id: str, given: str) -> bool:
    salt, _, wanted = given.partition(":")
    found = hashlib.sha256(bytes.fromhex(salt) + external_id.encode()).hexdigest()
    return hmac.compare_digest(found, wanted)


def _bucket(reader: Reader, setting: str) -> str:
    name = reader.text(setting, "tailpipe-dataexport-{account}")
    right = re.fullmatch(_BUCKET, name.replace("{account}", "0" * 12)) is not None and ".." not in name
    reader.check(right, setting, f"{name[:80]!r} is not a valid bucket name (it may contain {{account}})")
    return name


def _bucket_region(reader: Reader, setting: str, region: str, partition: str) -> str:
    chosen = reader.text(setting, region)
    if partition and chosen != region and partition_of(chosen) != partition:
        reader.problem(setting, f"{chosen[:80]!r} is not in partition {partition}, the partition of AWS_REGION")
    return chosen


def _prefix(reader: Reader, setting: str, default: str) -> str:
    # A doubled or trailing slash would make a different prefix than intended.
    prefix = reader.text(setting, default).strip("/")
    right = re.fullmatch(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*", prefix) is not None
    reader.check(right and len(prefix) <= 256, setting, f"{prefix[:80]!r} is not a valid key prefix")
    own = prefix.split("/")[0] in RESERVED
    reader.check(not own, setting, f"{'/, '.join(RESERVED)}/ are reserved for the function; choose another prefix")
    return prefix


def _principal(reader: Reader, partition: str, defaults: Mapping[str, str]) -> str:
    environment = reader.choice("TAILPIPE_ENVIRONMENT", "prod", ("prod", "uat"))
    default = defaults.get(environment, "") if partition == "aws" else ""
    pattern = rf"arn:{partition or 'aws[a-z-]*'}:iam::\d{{12}}:(role|user)/[\w+=,.@/-]+"
    return reader.text(
        "TAILPIPE_PRINCIPAL_ARN", default, pattern, f"the ARN of a role in partition {partition or 'aws'}"
    )


def _kms_key(reader: Reader, partition: str) -> str:
    pattern = rf"arn:{partition or 'aws[a-z-]*'}:kms:[a-z0-9-]+:\d{{12}}:(key|alias)/[\w/-]+"
    return reader.text("KMS_KEY_ARN", "", pattern, f"the ARN of a KMS key in partition {partition or 'aws'}")


def _secret(reader: Reader, setting: str, partition: str) -> str:
    pattern = SECRET_ARN.format(partition=partition or "aws[a-z-]*")
    # The value may be the secret itself by mistake, which must not be quoted.
    return reader.text(setting, "", pattern, "the ARN of a secret in Secrets Manager", secret=True)


def _topic(reader: Reader, partition: str) -> str:
    # Source: "Amazon SNS FIFO topics": the name of such a topic ends in .fifo.
    pattern = rf"arn:{partition or 'aws[a-z-]*'}:sns:[a-z0-9-]+:\d{{12}}:[A-Za-z0-9_-]{{1,251}}\.fifo"
    return reader.text("DELIVERY_TOPIC", "", pattern, "the ARN of a FIFO topic in SNS, whose name ends in .fifo")


def _endpoints(reader: Reader) -> dict[str, str]:
    names = {"": "AWS_ENDPOINT_URL"} | {service: f"AWS_ENDPOINT_URL_{service}" for service in ENDPOINT_SERVICES}
    found = {service: reader.endpoint(name) for service, name in names.items()}
    return {service: url for service, url in found.items() if url}
