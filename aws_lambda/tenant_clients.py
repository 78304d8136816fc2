"""The clients of a tenant's run: calls in the payer with a session of its role, the rest as the deployment itself.

A session never leaves the clients of its tenant: they are kept between invocations only for the same tenant and the
same entry, and each of their requests is signed by that session alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.credentials import RefreshableCredentials

from aws_lambda.clients import Clients, warm_key
from aws_lambda.settings import AwsSettings, account_of, session_of
from shared.errors import Denied, NotFound, NotUnderstood, Permanent, Unreachable
from shared.redaction import remember_secret
from shared.runtime.context import RunContext
from shared.runtime.warm_clients import WarmClients

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A session that one role's session opens lasts at most an hour. Source: "Role chaining" in "Roles terms and concepts",
# IAM User Guide.
SESSION = timedelta(hours=1)
# The longest run of a Lambda function is 15 minutes; botocore renews a session that has less than 15 minutes left.
NEEDED = timedelta(minutes=30)
EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)  # AssumeRole, AWS STS API reference
ENTRY_REMEDY = (
    "The role is missing, does not trust this deployment, or requires another External ID; AWS does not say which. "
    "tailpipe-exports tenants check finds out, and tenants invite prints what the tenant has to launch. The function's "
    "own role needs sts:AssumeRole on it too: apply the deployment again."
)
HOW_TO_STORE = "Store the External ID in this secret as text, and apply the deployment again, so that it is readable."


class _Entered:
    """A Resolver for the session of a tenant's role."""

    def __init__(self, credentials: RefreshableCredentials) -> None:
        self._credentials = credentials

    def load_credentials(self) -> RefreshableCredentials:
        return self._credentials


class TenantClients(Clients):
    """Clients that enter a tenant's payer; secrets, topics and a shared bucket are the deployment's, by `own`."""

    def __init__(self, settings: AwsSettings, own: Clients) -> None:
        self._prepare(settings)
        self._own = own
        self._until: datetime | None = None

    @property
    def s3(self) -> S3Client:
        return self._own.s3 if self._settings.shared_bucket else super().s3

    def secrets(self, region: str) -> Any:
        """Return the deployment's client of Secrets Manager in a region."""
        return self._own.secrets(region)

    def sns(self, region: str) -> Any:
        """Return the deployment's client of SNS in a region."""
        return self._own.sns(region)

    def enter(self, run: RunContext) -> None:
        """Assume the tenant's role, unless a session lasts longer than the run needs.

        Raises Unreachable if the role or its External ID refuses, and CloudError.
        """
        now = run.clock.now()
        if self._until is not None and now + NEEDED < self._until:
            return
        given: dict[str, Any] = {
            "RoleArn": self._settings.entry_role,
            "RoleSessionName": f"tailpipe-exports-{self._settings.tenant}",
            "ExternalId": external_id_of(self._settings, self._own, run),
            "DurationSeconds": int(SESSION.total_seconds()),
        }
        try:
            answer = run.calls("sts", self._own.sts.assume_role, **given)
        except (Denied, Permanent) as error:
            what = f"role {self._settings.entry_role} of tenant {self._settings.tenant} cannot be assumed"
            raise Unreachable(error.code, f"{what}: {error.message}", ENTRY_REMEDY) from error
        if account_of(str(answer["AssumedRoleUser"]["Arn"])) != account_of(self._settings.entry_role):
            raise NotUnderstood("sts AssumeRole", "its session is of another account than the role")
        self._open(answer, given)
        self._until = now + SESSION

    def _open(self, answer: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Sign with a session from now on; botocore renews it in a run that outlasts it."""
        self.close()
        self._built.clear()
        found = _metadata(answer)
        renew = lambda: _metadata(self._own.sts.assume_role(**given))  # noqa: E731 - a name reads better
        credentials = RefreshableCredentials.create_from_metadata(found, renew, "assume-role")
        self._session = session_of(_Entered(credentials))


def external_id_of(settings: AwsSettings, own: Clients, run: RunContext) -> str:
    """Return the External ID of a tenant from its secret; it stays in memory only. Raises Unreachable, CloudError."""
    secret = settings.entry_secret
    client = own.secrets(secret.split(":")[3])
    what = f"the External ID of tenant {settings.tenant}"
    try:
        found = str(run.calls("secretsmanager", client.get_secret_value, SecretId=secret).get("SecretString") or "")
    except (Denied, NotFound, Permanent) as error:
        raise Unreachable(error.code, f"{what} cannot be read: {error.message}", HOW_TO_STORE) from error
    remember_secret(found.strip())
    if not EXTERNAL_ID.fullmatch(found.strip()):
        code, why = "external-id-invalid", "its secret holds no text, or one that AWS does not accept"
        raise Unreachable(code, f"{what} is invalid: {why}", HOW_TO_STORE)
    return found.strip()


def _metadata(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return a session in the form that botocore's credentials take, and register its secrets for redaction."""
    found = answer["Credentials"]
    remember_secret(found["SecretAccessKey"], found["SessionToken"])
    return {
        "access_key": found["AccessKeyId"],
        "secret_key": found["SecretAccessKey"],
        "token": found["SessionToken"],
        "expiry_time": found["Expiration"].isoformat(),
    }


_warm = WarmClients[Clients]()


def tenant_clients(settings: AwsSettings, environment: Mapping[str, str], own: Clients) -> Clients:
    """Return the clients of a tenant's run; those of the last run if tenant, entry and destination are the same.

    Without a role to enter, a billing view of the deployment's own account is exported, with its own clients.
    """
    if not settings.entry_role:
        return own
    entry = (settings.tenant, settings.entry_role, settings.entry_secret, settings.shared_bucket)
    return _warm.get((*warm_key(settings, environment), *entry, id(own)), lambda: TenantClients(settings, own))
