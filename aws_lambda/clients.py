"""Create AWS clients from one session that is reused between invocations, with the SDK's retries turned off."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config

from aws_lambda.answers import prove
from aws_lambda.errors import translate
from aws_lambda.settings import AwsSettings, new_session
from shared.errors import NotUnderstood
from shared.parsing import digits
from shared.redaction import remember_secret
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.runtime.rate_limit import Rate
from shared.runtime.warm_clients import WarmClients

if TYPE_CHECKING:
    from mypy_boto3_bcm_data_exports import BillingandCostManagementDataExportsClient as ExportsClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_organizations import OrganizationsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sts import STSClient

# The region of the Data Exports API, by partition. Partitions without an entry do not have the service.
# Source: the service's endpoint rules in botocore.
EXPORT_REGIONS = {
    "aws": "us-east-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-cn": "cn-northwest-1",
    "aws-eusc": "eusc-de-east-1",
}

# Calls per second and burst. S3: at least 3,500 writes and 5,500 reads a second per prefix ("Best practices design
# patterns", Amazon S3 User Guide); STS: 600 a second (IAM and STS quotas, IAM User Guide); Secrets Manager: 10,000
# reads a second ("AWS Secrets Manager quotas"); SNS: 300 messages a second for a FIFO topic ("Amazon SNS endpoints and
# quotas"). No run needs more than a hundredth of any. For the others AWS
# publishes no rate that holds for all accounts. These rates are below observed throttling, so that most of the
# account's quota remains for other callers; the limiter slows down further when AWS throttles.
RATES = {
    "bcm-data-exports": Rate(5, 10),
    "billing": Rate(2, 5),
    "cloudformation": Rate(5, 10),
    "iam": Rate(10, 10),
    "organizations": Rate(8, 12),
    "s3": Rate(50, 50),
    "secretsmanager": Rate(10, 10),
    "sns": Rate(50, 50),
    "sts": Rate(10, 10),
}

ENDPOINT_NAMES = {"secretsmanager": "SECRETS_MANAGER"}  # others are named after the service, as boto3 calls it
SLOW = frozenset({"cloudformation", "organizations"})  # their listings take seconds in large organizations


class Clients:
    """Creates each client once, on first use, from any thread."""

    def __init__(self, settings: AwsSettings, environment: Mapping[str, str]) -> None:
        self._prepare(settings)
        key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
        token = environment.get("AWS_SESSION_TOKEN") or None
        remember_secret(secret, token)
        given = {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token}
        self._session = new_session(
            profile_name=environment.get("AWS_PROFILE") or None, **(given if key and secret else {})
        )

    def _prepare(self, settings: AwsSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._built: dict[tuple[str, str], Any] = {}
        self.read_secrets: dict[str, str] = {}  # by their ARNs

    def enter(self, run: RunContext) -> None:
        """Prepare for the calls of a run; the deployment's own credentials need nothing."""

    @property
    def exports(self) -> ExportsClient:
        region = EXPORT_REGIONS.get(self._settings.partition, self._settings.region)
        return cast("ExportsClient", self._client("bcm-data-exports", region))

    @property
    def billing(self) -> Any:
        """Return the client of AWS Billing, whose endpoint is in the region of Data Exports."""
        return self._client("billing", EXPORT_REGIONS.get(self._settings.partition, self._settings.region))

    @property
    def cloudformation(self) -> CloudFormationClient:
        return cast("CloudFormationClient", self._client("cloudformation", self._settings.region))

    @property
    def iam(self) -> IAMClient:
        return cast("IAMClient", self._client("iam", self._settings.region))

    @property
    def organizations(self) -> OrganizationsClient:
        return cast("OrganizationsClient", self._client("organizations", self._settings.region))

    @property
    def s3(self) -> S3Client:
        return cast("S3Client", self._client("s3", self._settings.bucket_region))

    @property
    def functions(self) -> Any:
        """Return the client of Lambda."""
        return self._client("lambda", self._settings.region)

    def secrets(self, region: str) -> Any:
        """Return the client of Secrets Manager in a region."""
        return self._client("secretsmanager", region)

    def sns(self, region: str) -> Any:
        """Return the client of SNS in a region."""
        return self._client("sns", region)

    @property
    def sts(self) -> STSClient:
        return cast("STSClient", self._client("sts", self._settings.region))

    def close(self) -> None:
        """Close the pooled connections; clients open new ones when they are used again."""
        for client in self._built.values():
            client.close()

    def _client(self, service: str, region: str) -> Any:
        with self._lock:
            if (service, region) not in self._built:
                self._built[service, region] = self._build(service, region)
            return self._built[service, region]

    def _build(self, service: str, region: str) -> Any:
        slow = service in SLOW
        endpoints = self._settings.endpoints
        name = ENDPOINT_NAMES.get(service, service.upper().replace("-", "_"))
        url = endpoints.get(name) or endpoints.get("")
        config = Config(
            connect_timeout=10 if slow else 5,
            read_timeout=20 if slow else 10,
            # The engine does all retries, within its budgets of attempts and time.
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=max(10, self._settings.engine.workers),
            # Only validated settings may override endpoints, not configuration that botocore finds itself.
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg] # botocore has it since 1.29.168, its stubs do not
            s3={"addressing_style": "path"} if url else {},
            # Requests have this version anyway, links only if asked: S3 refuses the older one for buckets made since
            # June 2020. Source: "AWS Signature Version 2 turned off (deprecated) for Amazon S3", Amazon S3 User Guide.
            signature_version="s3v4" if service == "s3" else None,
        )
        client: Any = self._session.client(
            cast("Any", service), region_name=region, endpoint_url=url or None, config=config
        )
        events = client.meta.events
        events.register("after-call", prove)
        events.register("before-send", _note_credentials)
        if service == "s3":
            events.register("before-parameter-build.s3", _disable_redirects)
        return client


def _note_credentials(request: Any, **_: Any) -> None:
    """Register the session token of a request for redaction, in case a response quotes it."""
    token = request.headers.get("X-Amz-Security-Token")
    if token:
        remember_secret(token.decode() if isinstance(token, bytes) else token)


def _disable_redirects(context: dict[str, Any], **_: Any) -> None:
    """Keep botocore from redirecting to another region: the settings define the bucket's region."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def new_run(settings: AwsSettings, sink: Sink, clock: Clock, seconds: float, seed: int | None = None) -> RunContext:
    """Return the context of a run with these settings, whose steps link to the console of their partition."""
    to_error = partial(translate, region=settings.region)
    return RunContext("aws", settings.engine, sink, clock, seconds, RATES, to_error, seed)


def own_account(clients: Clients, run: RunContext) -> str:
    """Return the account of the deployment's own credentials. Raises ReportedError."""
    own = run.calls("sts", clients.sts.get_caller_identity)["Account"]
    if digits(own, 12) is None:
        raise NotUnderstood("sts GetCallerIdentity", "its account id is not a number of 12 digits")
    return str(own)


_warm = WarmClients[Clients]()
_CREDENTIALS = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def warm_clients(settings: AwsSettings, environment: Mapping[str, str]) -> Clients:
    """Return the previous invocation's clients if region, endpoints and credentials are equal, otherwise new ones."""
    return _warm.get(warm_key(settings, environment), lambda: Clients(settings, environment))


def warm_key(settings: AwsSettings, environment: Mapping[str, str]) -> tuple[Hashable, ...]:
    """Return everything on which the deployment's clients depend."""
    return (
        settings.region,
        settings.bucket_region,
        settings.engine.workers,
        *sorted(settings.endpoints.items()),
        *(environment.get(name, "") for name in _CREDENTIALS),
    )
