"""Events: audit log entries that name what may have changed. Pub/Sub keeps them until a run has looked at it.

A log sink sends each entry to a topic with two subscriptions. Pub/Sub pushes one entry per request, so the push
subscription only notifies the function. The function then pulls everything from the other subscription, so that
thousands of entries become one run. A notification about an entry that was already pulled needs no call.

Sources: "Audit log for BigQuery", "Cloud Audit Logs with Cloud Storage", "Cloud Billing audit logging", "Resource
Manager audit logging", `LogEntry` and `AuditLog` (Cloud Logging), "Push subscriptions" and
``projects.subscriptions.pull`` (Pub/Sub).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gcp_function.clients import Clients
from gcp_function.settings import ACCOUNT, GcpSettings
from gcp_function.targets import BILLING, COPY, EXPORT, EXPORTS
from shared.hints import EventRefused, Hint
from shared.parsing import mapping, parse_time
from shared.redaction import printable
from shared.runtime.context import RunContext

QUOTA = "pubsub"
PAGE = 1000  # messages of one pull, the maximum of Pub/Sub
PULLS = 20  # for one notification: further messages have notifications of their own
LARGEST_EVENT = 256 * 1024  # bytes; a log entry has no more ("Quotas and limits", Cloud Logging)
# How much later than one subscription the other may get the same message.
SLACK = timedelta(seconds=30)

_BIGQUERY = "google.cloud.bigquery.v2."
_PROJECTS = "google.cloud.resourcemanager.v3.Projects."
_DATASET_METHODS = tuple(f"{_BIGQUERY}DatasetService.{verb}Dataset" for verb in ("Update", "Patch"))
_DELETIONS = (f"{_BIGQUERY}DatasetService.DeleteDataset", "storage.buckets.delete")
_TABLE_METHODS = (f"{_BIGQUERY}TableService.DeleteTable",)
_BUCKET_METHODS = ("storage.buckets.update", "storage.setIamPermissions")
_OBJECT_METHODS = ("storage.objects.delete",)
_ACCOUNT_METHODS = (
    "CreateBillingAccount",
    "CloseBillingAccount",
    "ReopenBillingAccount",
    "SetIamPolicy",
    "UpdateParentOrganization",
)
_PAYMENT_METHODS = ("AssignResourceToBillingAccount", "DisableResourceBilling")
_PROJECT_METHODS = (
    "DeleteProject",
    "UndeleteProject",
    f"{_PROJECTS}DeleteProject",
    f"{_PROJECTS}UndeleteProject",
    "google.api.serviceusage.v1.ServiceUsage.DisableService",
    "google.api.serviceusage.v1.ServiceUsage.EnableService",
)
_TABLES = {
    kind: re.compile(re.escape(export.table).replace(re.escape("{ID}"), r"([0-9A-F]{6}_[0-9A-F]{6}_[0-9A-F]{6})"))
    for kind, export in EXPORTS.items()
}


class Message(msgspec.Struct, frozen=True):
    """A Pub/Sub message: its id, the same in every subscription, its data, and when it was published.

    A pulled one is acknowledged by its `ack_id`.
    """

    id: str
    data: bytes
    published: datetime | None = None
    ack_id: str = ""


def pushed(document: object) -> Message | None:
    """Return the message of a push request; None for any other request."""
    if not isinstance(document, Mapping) or not isinstance(document.get("subscription"), str):
        return None
    message = document.get("message")
    return _message(message, "") if isinstance(message, Mapping) else None


class EventQueue:
    """The subscription that is pulled. Every method may raise a CloudError."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._name = settings.events_subscription
        self._clients = clients
        self._run = run

    def pull(self) -> tuple[list[Message], bool]:
        """Return waiting messages, leased until their deadline, and whether these are all of them."""
        found: list[Message] = []
        for _ in range(PULLS):
            body = {"maxMessages": PAGE, "returnImmediately": True}
            answer = self._run.calls(QUOTA, self._clients.post, QUOTA, f"v1/{self._name}:pull", body)
            received = answer.get("receivedMessages") or []
            if not received:
                return found, True
            found += [_message(mapping(one.get("message")), str(one.get("ackId", ""))) for one in received]
        return found, False

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages that a run has handled or that are refused."""
        self._tell("acknowledge", messages, {})

    def release(self, messages: Sequence[Message]) -> None:
        """End the messages' leases, so that they can be pulled again."""
        self._tell("modifyAckDeadline", messages, {"ackDeadlineSeconds": 0})

    def _tell(self, verb: str, messages: Sequence[Message], body: Mapping[str, Any]) -> None:
        ids = [one.ack_id for one in messages if one.ack_id]
        for start in range(0, len(ids), PAGE):
            request = {**body, "ackIds": ids[start : start + PAGE]}
            self._run.calls(QUOTA, self._clients.post, QUOTA, f"v1/{self._name}:{verb}", request)


def calls_for(messages: Sequence[Message]) -> int:
    """Return the number of calls that acknowledge or release messages."""
    return -(-sum(bool(one.ack_id) for one in messages) // PAGE)


def hint_of(data: bytes, settings: GcpSettings) -> Hint | None:
    """Return the hint in an audit log entry; None if the operation failed and thus changed nothing.

    Raises EventRefused and nothing else, for any `data`.
    """
    entry = _entry(data)
    payload = mapping(entry.get("protoPayload"))
    method, resource = payload.get("methodName"), payload.get("resourceName")
    if not isinstance(method, str) or not isinstance(resource, str):
        raise EventRefused("event-malformed", "it is not an audit log entry")
    read = _READERS.get(method)
    if read is None:
        raise EventRefused("event-unknown", f"its method is {printable(method)[:80]!r}")
    status = mapping(payload.get("status"))
    if status.get("code"):
        return None
    scope, kind = read(resource, settings)
    return Hint(scope, kind, parse_time(entry.get("timestamp")))


def _entry(data: bytes) -> Mapping[str, Any]:
    if len(data) > LARGEST_EVENT:
        raise EventRefused("event-too-large", f"it has {len(data)} bytes, more than {LARGEST_EVENT}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EventRefused("event-malformed", f"it is not JSON ({type(error).__name__})") from error
    return mapping(document)


def _message(document: Mapping[str, Any], ack_id: str) -> Message:
    text = document.get("data")
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        data = b""
    return Message(str(document.get("messageId", "")), data, parse_time(document.get("publishTime")), ack_id)


Found = tuple[str, str]  # scope and kind, each of which may be empty
EVERYTHING = ("", "")  # a dataset or a bucket concerns its contents, for every account


def _deletion(resource: str, settings: GcpSettings) -> Found:
    (_dataset if "/datasets/" in resource else _bucket)(resource, settings)
    return EVERYTHING


def _dataset(resource: str, settings: GcpSettings) -> Found:
    _must_be(resource, f"projects/{settings.project}/datasets/{settings.dataset}")
    return settings.project, ""


def _table(resource: str, settings: GcpSettings) -> Found:
    dataset, _, table = resource.partition("/tables/")
    _must_be(dataset, f"projects/{settings.project}/datasets/{settings.dataset}")
    for pattern in _TABLES.values():
        found = pattern.fullmatch(table)
        if found:
            # The pricing table names no account.
            return found[1].replace("_", "-") if found.groups() else "", EXPORT.name
    raise EventRefused("event-of-another-resource", f"{printable(table)[:80]!r} is not a billing export table")


def _bucket(resource: str, settings: GcpSettings) -> Found:
    _must_be(resource, f"projects/_/buckets/{settings.bucket}", f"projects/_/buckets/{settings.state_bucket}")
    return settings.project, ""


def _object(resource: str, settings: GcpSettings) -> Found:
    bucket, _, name = resource.partition("/objects/")
    _must_be(bucket, f"projects/_/buckets/{settings.bucket}")
    account = name.partition("/")[0]
    if not re.fullmatch(ACCOUNT, account):
        raise EventRefused("event-of-another-resource", f"{printable(name)[:80]!r} is not a copy of an export")
    return account, COPY.name


def _account(resource: str, _settings: GcpSettings) -> Found:
    prefix, _, account = resource.partition("/")
    if prefix != "billingAccounts" or not re.fullmatch(ACCOUNT, account):
        raise EventRefused("event-of-another-resource", f"{printable(resource)[:80]!r} is not a billing account")
    return account, ""


def _payment(_resource: str, settings: GcpSettings) -> Found:
    # Logged with the project or with the account that pays; a look shows which project it is.
    return settings.project, BILLING.name


def _project(resource: str, settings: GcpSettings) -> Found:
    if resource.split("/")[:2] != ["projects", settings.project] and resource != settings.project:
        raise EventRefused("event-of-another-resource", f"{printable(resource)[:80]!r} is another project")
    return settings.project, ""


def _must_be(resource: str, *expected: str) -> None:
    if resource not in expected:
        raise EventRefused("event-of-another-resource", f"{printable(resource)[:120]!r} is not of this deployment")


_READERS: Mapping[str, Callable[[str, GcpSettings], Found]] = {
    **dict.fromkeys(_DELETIONS, _deletion),
    **dict.fromkeys(_DATASET_METHODS, _dataset),
    **dict.fromkeys(_TABLE_METHODS, _table),
    **dict.fromkeys(_BUCKET_METHODS, _bucket),
    **dict.fromkeys(_OBJECT_METHODS, _object),
    **dict.fromkeys(_ACCOUNT_METHODS, _account),
    **dict.fromkeys(_PAYMENT_METHODS, _payment),
    **dict.fromkeys(_PROJECT_METHODS, _project),
}
METHODS = tuple(_READERS)
