"""Sessions of AWS services, which assume a role that trusts them and call as that role.

Their calls go through the local cloud's gateway, so that the role's policies apply and the call log shows the role.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from moto.sts.models import sts_backends

from localcloud.aws.arns import Where
from localcloud.aws.calls import Call, CallLog
from localcloud.aws.errors import AwsError, denied
from localcloud.aws.iam.member_roles import MemberRoles
from localcloud.aws.iam.policy import Access
from localcloud.aws.iam.required_actions import RequiredAction
from shared.runtime.clock import Clock

_SESSION_S = 12 * 3600
_KEPT_CLIENTS = 64


@cache
def shared_session() -> Any:
    """Return a shared boto3 session, which caches the service models."""
    return boto3.session.Session()


class Sessions:
    """Sessions of roles that services assume. `endpoint` is set when the local cloud starts to serve."""

    def __init__(self, clock: Clock, partition: str, roles: MemberRoles, calls: CallLog) -> None:
        self._clock = clock
        self._partition = partition
        self._roles = roles
        self._calls = calls
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._lock = threading.Lock()
        self.endpoint = ""

    def assume(self, service: str, role: str, name: str, where: Where, context: dict[str, str] | None = None) -> Any:
        """Assume `role` as a service principal and return moto's record of the session.

        `context` holds the keys that the service sets (aws:SourceArn, aws:SourceAccount). Raises AwsError
        (AccessDenied) if the role does not exist or does not trust the service.
        """
        access = Access(service, "Service", "sts:AssumeRole", "", context or {})
        trusted = self._roles.trusts(role, access)
        self._calls.add(
            Call(
                self._clock.now(),
                where.account,
                service,
                "sts",
                "AssumeRole",
                (RequiredAction("sts:AssumeRole", (role,)),),
                200 if trusted else 403,
                None if trusted else "AccessDenied",
            )
        )
        if not trusted:
            raise denied("sts", service, "sts:AssumeRole", role, "because the role does not trust the service")
        backend = sts_backends[role.split(":")[4]][self._partition]
        return backend.assume_role(
            region_name=where.region,
            role_session_name=name,
            role_arn=role,
            policy=None,
            duration=_SESSION_S,
            external_id=None,
        )

    def client(self, session: Any, service: str, region: str) -> Any:
        """Return a boto3 client with a session's credentials; cached until `close`."""
        key = (str(session.access_key_id), service, region)
        with self._lock:
            if key not in self._clients:
                while len(self._clients) >= _KEPT_CLIENTS:
                    self._clients.pop(next(iter(self._clients))).close()
                self._clients[key] = shared_session().client(
                    service,
                    endpoint_url=self.endpoint,
                    region_name=region,
                    aws_access_key_id=session.access_key_id,
                    aws_secret_access_key=session.secret_access_key,
                    aws_session_token=session.session_token,
                    config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60),
                )
            return self._clients[key]

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def credentials(session: Any) -> dict[str, str]:
    """Return a session's credentials as the SDKs' environment variables."""
    return {
        "AWS_ACCESS_KEY_ID": str(session.access_key_id),
        "AWS_SECRET_ACCESS_KEY": str(session.secret_access_key),
        "AWS_SESSION_TOKEN": str(session.session_token),
    }


def send(client: Any, arn: str, body: str, attributes: dict[str, str] | None = None) -> None:
    """Send a message with attributes to a queue or a topic. Raises ClientError if the service refuses it."""
    sent = {name: {"DataType": "String", "StringValue": value} for name, value in (attributes or {}).items() if value}
    service, account, name = arn.split(":")[2], arn.split(":")[4], arn.rpartition(":")[2]
    if service == "sqs":
        url = f"{client.meta.endpoint_url}/{account}/{name}"
        client.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=sent)
    elif service == "sns":
        client.publish(TopicArn=arn, Message=body, MessageAttributes=sent)
    else:
        message = f"the local cloud sends only to queues and topics, not to {arn}"
        raise AwsError("InvalidParameterValueException", message)
