"""Turn an EventBridge event into a hint about what may have changed, or refuse it.

Events are CloudTrail's records of calls and of AWS's own actions, and CloudFormation's events of StackSets. The rules
in infra/aws let only such events through, but this module does not rely on them: anyone who may send to the queue can
send anything. A missing field that does not matter is accepted, because a hint only costs a few reads.

Names and fields of events, by source:

- Data Exports: "Logging AWS Data Exports API calls with AWS CloudTrail", AWS Data Exports User Guide.
- S3: "Amazon S3 CloudTrail events", Amazon S3 User Guide. Some names differ from the operation's name.
- IAM: "Logging IAM and AWS STS API calls with AWS CloudTrail", IAM User Guide.
- StackSets: "CloudFormation events detail reference", EventBridge Events Reference: StackInstance Status Change is sent
  once an instance is deleted, while CloudTrail's DeleteStackInstances is recorded when its deletion begins.
- Organizations: "Logging API calls with AWS CloudTrail for AWS Organizations", AWS Organizations User Guide, and the
  API reference of CloseAccount, AcceptHandshake and RemoveAccountFromOrganization. AcceptHandshake is in the invited
  account's trail; the management account's trail has the membership events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from aws_lambda.settings import AwsSettings
from aws_lambda.targets import BUCKET, CONNECTOR_ROLE, EXPORT, MEMBER_ROLE, datasets_of
from shared.hints import EventRefused, Hint
from shared.parsing import digits, mapping, parse_texts, parse_time
from shared.redaction import printable

MOST_BYTES = 262_144  # the largest event of CloudTrail, and the largest that EventBridge accepts
STACK_INSTANCE = "CloudFormation StackSet StackInstance Status Change"
_UUID = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class Own(msgspec.Struct, frozen=True):
    """The resources of the deployment: only events about them are hints.

    `function_role` is the ARN of the function's role, whose own writes are ignored; "" if it is not known.
    """

    account: str
    bucket: str
    exports: frozenset[str]
    stackset: str
    connector_role: str
    function_role: str = ""


def own_of(settings: AwsSettings, account: str, function_role: str = "") -> Own:
    """Return the deployment's resources in `account`."""
    return Own(
        account,
        settings.bucket_of(account),
        frozenset(datasets_of(settings)),
        settings.stackset,
        settings.connector_role,
        function_role,
    )


def read_event(body: str | bytes, own: Own) -> Hint | None:
    """Return the hint in an event's JSON text; see `hint_of`. Raises EventRefused and nothing else."""
    return hint_of(decode_event(body), own)


def decode_event(body: str | bytes) -> object:
    """Return the JSON in an event's text. Raises EventRefused."""
    if len(body) > MOST_BYTES:
        raise EventRefused(code="event-too-large", reason=f"the event has more than {MOST_BYTES} bytes")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EventRefused(code="event-malformed", reason="the event is not valid JSON") from error


def require_account(account: object, own: Own) -> None:
    """Raise EventRefused unless `account` is the function's own."""
    if account != own.account:
        raise EventRefused(
            code="event-of-another-account", reason=f"the event is of account {shown(account)}, not {own.account}"
        )


def hint_of(event: object, own: Own) -> Hint | None:
    """Return what an event says may have changed; None for the function's own writes and for calls that failed.

    Raises EventRefused and nothing else.
    """
    found = mapping(event)
    detail, source = found.get("detail"), found.get("source")
    if not isinstance(detail, Mapping) or not isinstance(source, str):
        raise EventRefused(code="event-malformed", reason="the event has no source, or its detail is no JSON object")
    by_trail = "eventName" in detail
    name = detail.get("eventName") if by_trail else found.get("detail-type")
    reader = READERS.get((source, name)) if isinstance(name, str) else None
    if reader is None:
        raise EventRefused(code="event-unknown", reason=f"{shown(name)} of {shown(source)} is not an event to act on")
    require_account(found.get("account"), own)
    require_account(detail.get("recipientAccountId", own.account), own)
    if detail.get("errorCode") or _is_own_write(detail, own):
        return None
    return reader(detail, own, parse_time(detail.get("eventTime") if by_trail else found.get("time")))


def membership(name: str, detail: Mapping[str, Any]) -> str:
    """Return the account that an event of Organizations is about, "" where a full run has to see what changed.

    Raises KeyError for an event that says nothing about membership.
    """
    return digits(MEMBERSHIP[name](detail), 12) or ""


def _is_own_write(detail: Mapping[str, Any], own: Own) -> bool:
    issuer = mapping(mapping(mapping(detail.get("userIdentity")).get("sessionContext")).get("sessionIssuer"))
    return bool(own.function_role) and issuer.get("arn") == own.function_role


def _of_export(detail: Mapping[str, Any], own: Own, at: datetime | None) -> Hint:
    arn = _parameter(detail, "exportArn") or _parameter(detail, "ExportArn")
    name = _UUID.sub("", str(arn).rpartition("/")[2])
    # Without the ARN, the event may be about any export, and looking at ours is cheap.
    if arn is not None and name not in own.exports:
        raise refuse_another(f"export {shown(name)}", sorted(own.exports))
    return Hint(own.account, EXPORT.name, at)


def _of_bucket(detail: Mapping[str, Any], own: Own, at: datetime | None) -> Hint:
    bucket = _parameter(detail, "bucketName")
    if bucket != own.bucket:
        raise refuse_another(f"bucket {shown(bucket)}", [own.bucket])
    return Hint(own.account, BUCKET.name, at)


def _of_connector(detail: Mapping[str, Any], own: Own, at: datetime | None) -> Hint:
    role = _parameter(detail, "roleName")
    if role != own.connector_role:
        raise refuse_another(f"role {shown(role)}", [own.connector_role])
    return Hint(own.account, CONNECTOR_ROLE.name, at)


def _of_stackset(detail: Mapping[str, Any], own: Own, at: datetime | None) -> Hint:
    """Return a hint about everything: a changed StackSet concerns every member."""
    _require_stackset(_parameter(detail, "stackSetName"), own)
    return Hint(at=at)


def _of_instances(detail: Mapping[str, Any], own: Own, at: datetime | None) -> Hint:
    _require_stackset(_parameter(detail, "stackSetName"), own)
    accounts = parse_texts(_parameter(detail, "accounts"))
    accounts = accounts or parse_texts(mapping(_parameter(detail, "deploymentTargets")).get("accounts"))
    account = digits(accounts[0], 12) if len(accounts) == 1 else None
    return Hint(account, MEMBER_ROLE.name, at) if account else Hint(at=at)


def _of_instance(detail: Mapping[str, Any], own: Own, at: datetime | None) -> Hint | None:
    """Return the account whose stack instance was deleted; creating and updating instances is the function's own."""
    _require_stackset(detail.get("stack-set-arn"), own)
    if detail.get("action") != "DELETE":
        return None
    fields = str(detail.get("stack-id")).split(":")
    account = digits(fields[4], 12) if len(fields) > 4 else None
    return Hint(account, MEMBER_ROLE.name, at) if account else Hint(at=at)


def _of_organization(detail: Mapping[str, Any], _own: Own, at: datetime | None) -> Hint:
    return Hint(membership(str(detail.get("eventName")), detail), at=at)


def _created(detail: Mapping[str, Any]) -> object:
    status = mapping(mapping(detail.get("serviceEventDetails")).get("createAccountStatus"))
    # A failed creation has no account id; a full run is cheap and covers whatever exists.
    return status.get("accountId") if status.get("state") == "SUCCEEDED" else None


def _handshake(detail: Mapping[str, Any]) -> object:
    """Return the account that accepted an invitation: a party of the handshake, or the caller."""
    parties = mapping(mapping(detail.get("responseElements")).get("handshake")).get("parties")
    for party in parties if isinstance(parties, list) else ():
        if mapping(party).get("type") == "ACCOUNT":
            return party.get("id")
    return mapping(detail.get("userIdentity")).get("accountId")


def _everything(_detail: Mapping[str, Any]) -> None:
    """Name no account: only a full run detects that one is missing, or that another account pays now."""


MEMBERSHIP: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "AcceptHandshake": _handshake,
    "AccountDepartedOrganization": _everything,
    "AccountJoinedOrganization": lambda detail: mapping(detail.get("serviceEventDetails")).get("accountId"),
    "CloseAccountResult": _everything,
    "CreateAccountResult": _created,
    "MoveAccount": lambda detail: _parameter(detail, "accountId"),
    "ResponsibilityTransferAccepted": _everything,
    "ResponsibilityTransferTerminated": _everything,
}
BUCKET_EVENTS = (
    "DeleteBucket",
    "DeleteBucketEncryption",
    "DeleteBucketLifecycle",
    "DeleteBucketPolicy",
    "DeleteBucketPublicAccessBlock",
    "PutBucketEncryption",
    "PutBucketLifecycle",
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
)
READERS: Mapping[tuple[str, str], Callable[[Mapping[str, Any], Own, datetime | None], Hint | None]] = {
    ("aws.bcm-data-exports", "DeleteExport"): _of_export,
    ("aws.bcm-data-exports", "UpdateExport"): _of_export,
    ("aws.cloudformation", "DeleteStackInstances"): _of_instances,
    ("aws.cloudformation", "DeleteStackSet"): _of_stackset,
    ("aws.cloudformation", "UpdateStackSet"): _of_stackset,
    ("aws.cloudformation", STACK_INSTANCE): _of_instance,
    ("aws.iam", "DeleteRole"): _of_connector,
    ("aws.iam", "UpdateAssumeRolePolicy"): _of_connector,
    **{("aws.organizations", name): _of_organization for name in MEMBERSHIP},
    **{("aws.s3", name): _of_bucket for name in BUCKET_EVENTS},
}


def _parameter(detail: Mapping[str, Any], name: str) -> object:
    return mapping(detail.get("requestParameters")).get(name)


def _require_stackset(given: object, own: Own) -> None:
    """Raise EventRefused unless `given` is our StackSet: its name, ``name:id`` or its ARN."""
    name = str(given).rpartition("stackset/")[2].partition(":")[0]
    if name != own.stackset:
        raise refuse_another(f"StackSet {shown(name)}", [own.stackset])


def refuse_another(found: str, own: list[str]) -> EventRefused:
    """Return the refusal of an event about `found`, which is not in `own`."""
    return EventRefused(code="event-of-another-resource", reason=f"the event is about {found}, not {', '.join(own)}")


def shown(value: object) -> str:
    """Return a value of an event as a reason quotes it: printable, and cut."""
    return repr(printable(str(value))[:80])
