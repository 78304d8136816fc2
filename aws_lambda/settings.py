"""Read the AWS function's settings from environment variables, and report every problem before any call is made."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import cache, lru_cache

import boto3.session
import botocore.session
import msgspec
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

_ACCOUNT = r"\d{12}"
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

    def bucket_of(self, account: str) -> str:
        """Return the bucket's name for the function's account."""
        return self.bucket.replace("{account}", account)

    def external_id_matches(self, external_id: str) -> bool:
        """Return whether an External ID matches one of the configured hashes."""
        return any(_has_hash(external_id, given) for given in self.external_id_hash.split(","))


@cache
def _loader() -> Loader:
    return create_loader()


def new_session(**credentials: str | None) -> boto3.session.Session:
    """Return a session that reuses the loaded service models: parsing them takes most of a cold start.

    `credentials` are arguments of `boto3.session.Session`: a profile, or an access key with its secret and token.
    """
    core = botocore.session.get_session()
    core.register_component("data_loader", _loader())
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
    settings = AwsSettings(
        region=region,
        partition=partition,
        account_kind=reader.choice("ACCOUNT_KIND", "management", ("management", "standalone")),
        bucket=_bucket(reader),
        bucket_region=_bucket_region(reader, region, partition),
        prefix=_prefix(reader),
        exports=reader.choices("EXPORTS", "cur2", DATASETS),
        include_accounts=reader.items("INCLUDE_ACCOUNTS", "", _ACCOUNT, "an account id of 12 digits"),
        exclude_accounts=reader.items("EXCLUDE_ACCOUNTS", "", _ACCOUNT, "an account id of 12 digits"),
        include_ous=reader.items("INCLUDE_OUS", "", _PARENT, "the id of an OU (ou-…) or root (r-…)"),
        stackset=reader.text("STACKSET_NAME", "Tailpipe-CloudWatch-Child-StackSet", _STACKSET, "a StackSet's name"),
        member_role=reader.text("MEMBER_ROLE_NAME", "tailpipe-child-connector", _ROLE, "a role's name"),
        connector_role=reader.text("CONNECTOR_ROLE_NAME", "tailpipe-connector-role", _ROLE, "a role's name"),
        principal=_principal(reader, partition),
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
        notify_url=_secret(reader, partition),
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
    reader.finish()
    return settings


def _has_hash(external_id: str, given: str) -> bool:
    salt, _, wanted = given.partition(":")
    found = hashlib.sha256(bytes.fromhex(salt) + external_id.encode()).hexdigest()
    return hmac.compare_digest(found, wanted)


def _bucket(reader: Reader) -> str:
    name = reader.text("BUCKET_NAME", "tailpipe-dataexport-{account}")
    right = re.fullmatch(_BUCKET, name.replace("{account}", "0" * 12)) is not None and ".." not in name
    reader.check(right, "BUCKET_NAME", f"{name[:80]!r} is not a valid bucket name (it may contain {{account}})")
    return name


def _bucket_region(reader: Reader, region: str, partition: str) -> str:
    chosen = reader.text("BUCKET_REGION", region)
    if partition and chosen != region and partition_of(chosen) != partition:
        reader.problem("BUCKET_REGION", f"{chosen[:80]!r} is not in partition {partition}, the partition of AWS_REGION")
    return chosen


def _prefix(reader: Reader) -> str:
    # A doubled or trailing slash would make a different prefix than intended.
    prefix = reader.text("EXPORT_PREFIX", "dataexport").strip("/")
    right = re.fullmatch(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*", prefix) is not None
    reader.check(right and len(prefix) <= 256, "EXPORT_PREFIX", f"{prefix[:80]!r} is not a valid key prefix")
    own = prefix.split("/")[0] in ("state", "runs")
    reader.check(not own, "EXPORT_PREFIX", "state/ and runs/ are reserved for the function; choose another prefix")
    return prefix


def _principal(reader: Reader, partition: str) -> str:
    environment = reader.choice("TAILPIPE_ENVIRONMENT", "prod", ("prod", "uat"))
    default = TAILPIPE_PRINCIPALS[environment] if partition == "aws" else ""
    pattern = rf"arn:{partition or 'aws[a-z-]*'}:iam::\d{{12}}:(role|user)/[\w+=,.@/-]+"
    return reader.text(
        "TAILPIPE_PRINCIPAL_ARN", default, pattern, f"the ARN of a role in partition {partition or 'aws'}"
    )


def _kms_key(reader: Reader, partition: str) -> str:
    pattern = rf"arn:{partition or 'aws[a-z-]*'}:kms:[a-z0-9-]+:\d{{12}}:(key|alias)/[\w/-]+"
    return reader.text("KMS_KEY_ARN", "", pattern, f"the ARN of a KMS key in partition {partition or 'aws'}")


def _secret(reader: Reader, partition: str) -> str:
    pattern = rf"arn:{partition or 'aws[a-z-]*'}:secretsmanager:[a-z0-9-]+:\d{{12}}:secret:[\w/+=.@-]{{1,512}}"
    # The value may be the webhook's address by mistake, which is a secret and must not be quoted.
    return reader.text("NOTIFY_URL", "", pattern, "the ARN of a secret in Secrets Manager", secret=True)


def _topic(reader: Reader, partition: str) -> str:
    # Source: "Amazon SNS FIFO topics": the name of such a topic ends in .fifo.
    pattern = rf"arn:{partition or 'aws[a-z-]*'}:sns:[a-z0-9-]+:\d{{12}}:[A-Za-z0-9_-]{{1,251}}\.fifo"
    return reader.text("DELIVERY_TOPIC", "", pattern, "the ARN of a FIFO topic in SNS, whose name ends in .fifo")


def _endpoints(reader: Reader) -> dict[str, str]:
    names = {"": "AWS_ENDPOINT_URL"} | {service: f"AWS_ENDPOINT_URL_{service}" for service in ENDPOINT_SERVICES}
    found = {service: reader.endpoint(name) for service, name in names.items()}
    return {service: url for service, url in found.items() if url}
