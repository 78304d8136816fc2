"""Everything that reads what others wrote: with its valid documents, and with the errors that it may raise."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import requests
from azure.core.exceptions import HttpResponseError
from botocore.exceptions import ClientError
from google.api_core.exceptions import from_http_status
from hypothesis import strategies as st

import aws_lambda.answers
import aws_lambda.errors
import aws_lambda.events
import aws_lambda.handler
import aws_lambda.object_events
import aws_lambda.settings
import aws_lambda.tenants
import azure_function.activity_log
import azure_function.delivery_events
import azure_function.errors
import azure_function.settings
import azure_function.tenants
import gcp_function.answers
import gcp_function.errors
import gcp_function.events
import gcp_function.settings
import gcp_function.tenants
from aws_lambda.resources import bucket_policy, delivery_manifest, export_definition
from aws_lambda.targets import datasets_of
from azure_function.resources import export_document, manifests
from azure_function.targets import EXPORT as AZURE_EXPORT
from azure_function.targets import placement_of
from gcp_function.resources import copy_manifest
from shared.errors import NotUnderstood, RegistryError, ReportedError, RequestError, RunStopped, SettingsError
from shared.hints import EventRefused, parse_hints
from shared.model import Key
from shared.periods import Period
from shared.request import parse_request
from shared.state.decoding import CorruptState, parse
from shared.state.deliveries import CorruptLedger, Ledger, NewerLedger, decode
from shared.state.document import dump
from shared.tenants.registry import environment_of, parse_registry
from tests.azure_function.support import account_settings
from tests.hostile.documents import ANY, JUNK, TEXTS, damaged, spelled
from tests.test_fuzz_inputs import READERS as SETTINGS

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
AT = "2026-03-04T04:00:00Z"
ACCOUNT, SUBSCRIPTION = "111122223333", "00000000-0000-0000-0000-00000000abcd"

MANY_REFUSALS = (ReportedError, SettingsError, RequestError, RegistryError, EventRefused, CorruptState, RunStopped)
AWS = aws_lambda.settings.read_settings({"AWS_REGION": "eu-west-1"})
AZURE = account_settings()
GCP = gcp_function.settings.read_settings(
    {"GOOGLE_CLOUD_PROJECT": "p-export", "DATASET_LOCATION": "EU", "ORGANIZATION": "organizations/1"}
)
OWN = aws_lambda.events.own_of(AWS, ACCOUNT)


class Reader(NamedTuple):
    """What reads a document: its area, a strategy for what it gets, and the errors that it may raise."""

    area: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], object]
    refusals: tuple[type[BaseException], ...] = ()


# --- events -----------------------------------------------------------------------------------------------------------


def _trail(source: str, name: str, **detail: Any) -> dict[str, Any]:
    return {
        "source": source,
        "account": ACCOUNT,
        "time": AT,
        "detail-type": "AWS API Call via CloudTrail",
        "detail": {
            "eventName": name,
            "eventTime": AT,
            "userIdentity": {"sessionContext": {"sessionIssuer": {"arn": f"arn:aws:iam::{ACCOUNT}:role/x"}}},
            "recipientAccountId": ACCOUNT,
            **detail,
        },
    }


_EXPORT_ARN = f"arn:aws:bcm-data-exports:us-east-1:{ACCOUNT}:export/tailpipe-dataexport-7c2d1c7e"
AWS_EVENTS = (
    _trail("aws.bcm-data-exports", "DeleteExport", requestParameters={"exportArn": _EXPORT_ARN}),
    _trail("aws.s3", "PutBucketPolicy", requestParameters={"bucketName": f"tailpipe-dataexport-{ACCOUNT}"}),
    _trail("aws.organizations", "CreateAccountResult", serviceEventDetails={"createAccountStatus": {"accountId": "1"}}),
    _trail("aws.organizations", "AcceptHandshake", responseElements={"handshake": {"parties": [{"id": "1"}]}}),
    _trail("aws.iam", "DeleteRole", requestParameters={"roleName": "tailpipe-connector-role"}),
    _trail("aws.cloudformation", "DeleteStackInstances", requestParameters={"stackSetName": "x", "accounts": ["1"]}),
)
OBJECT_EVENT = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "account": ACCOUNT,
    "detail": {
        "bucket": {"name": f"tailpipe-dataexport-{ACCOUNT}"},
        "object": {
            "key": "dataexport/tailpipe-dataexport/metadata/BILLING_PERIOD=2026-03/tailpipe-dataexport-Manifest.json"
        },
    },
}
_BLOB = f"tailpipe/subscriptions/{SUBSCRIPTION}/TailpipeDataExport-00abcd/20260301-20260331/x/manifest.json"
GRID_EVENT = {
    "eventType": "Microsoft.Storage.BlobCreated",
    "topic": AZURE.destination[0].id,
    "subject": f"/blobServices/default/containers/{AZURE.container}/blobs/{_BLOB}",
    "eventTime": AT,
}
ACTIVITY = {
    "tables": [
        {
            "name": "PrimaryResult",
            "columns": [{"name": one, "type": "string"} for one in azure_function.activity_log.COLUMNS],
            "rows": [
                [
                    {"at": AT, "operation": one, "subscription": SUBSCRIPTION, "resource": "/x/exports/y"}.get(name, "")
                    for name in azure_function.activity_log.COLUMNS
                ]
                for one in sorted(azure_function.activity_log.OPERATIONS)[:2]
            ],
        }
    ]
}


def _audit(method: str, resource: str) -> dict[str, Any]:
    payload = {"methodName": method, "resourceName": resource, "status": {"code": 0}}
    return {"protoPayload": payload, "timestamp": AT}


_BUCKET = "projects/_/buckets/tailpipe-billing-export-p-export"
AUDITS = tuple(
    _audit(method, resource)
    for method in sorted(gcp_function.events._READERS)
    for resource in (
        "projects/p-export",
        "projects/p-export/datasets/billing_export",
        "projects/p-export/datasets/billing_export/tables/gcp_billing_export_v1_000000_111111_222222",
        _BUCKET,
        f"{_BUCKET}/objects/000000-111111-222222/2026-03-01/usage/manifest.json",
        "billingAccounts/000000-111111-222222",
    )
)
PUSH = {"subscription": "projects/p/subscriptions/s", "message": {"data": "e30=", "messageId": "1", "publishTime": AT}}


def _read_activity(document: Any) -> None:
    for row in azure_function.activity_log._rows(document):
        azure_function.activity_log._change(row, AZURE)


def _read_object_event(data: bytes) -> None:
    aws_lambda.object_events.read_object_event(data, OWN, "dataexport")


# --- registry ---------------------------------------------------------------------------------------------------------

TENANTS = (
    {
        "id": "acme",
        "cloud": "aws",
        "name": "Acme",
        "entry": {
            "role_arn": f"arn:aws:iam::{ACCOUNT}:role/tailpipe-entry",
            "external_id": f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:acme-AbCdEf",
        },
        "destination": {"bucket": "acme-exports", "bucket_region": "eu-west-1"},
        "settings": {"CALL_BUDGET": "10"},
        "labels": {"group": "north"},
        "paused": False,
    },
    {
        "id": "bolt",
        "cloud": "azure",
        "entry": {"tenant_id": SUBSCRIPTION, "client_id": SUBSCRIPTION},
        "destination": {"storage_account": AZURE.destination[0].id},
        "settings": {"BACKFILL_MONTHS": "2"},
    },
    {
        "id": "cord",
        "cloud": "gcp",
        "entry": {"service_account": "reader@cord-project.iam.gserviceaccount.com", "organization": "organizations/42"},
        "destination": {"project": "cord-project", "dataset": "billing_export", "location": "EU"},
        "settings": {"COPY_DAYS": "30"},
    },
)
REGISTRY = {"version": 1, "tenants": list(TENANTS)}
RULES = {
    "aws": aws_lambda.tenants.RULES,
    "azure": azure_function.tenants.RULES,
    "gcp": gcp_function.tenants.RULES,
}


def _read_registry(data: bytes) -> None:
    """Each usable tenant has an environment of texts, and each refused one its faults."""
    for rules in RULES.values():
        registry = parse_registry(data, rules)
        for tenant in registry.tenants.values():
            environment = environment_of(tenant, {"AWS_REGION": "eu-west-1"}, rules)
            "".join(environment.values()).encode()
        "".join(fault for faults in registry.refused.values() for fault in faults).encode()


# --- state documents --------------------------------------------------------------------------------------------------

STATE = {
    "version": 2,
    "cloud": "aws",
    "owner": ACCOUNT,
    "updated_at": AT,
    "cycle_since": AT,
    "running": {"run_id": "r1", "since": AT, "until": AT},
    "runs": [
        {"run_id": "r0", "at": AT, "status": "ok", "duration_s": 1.5, "active": 1, "covered": 1, "calls": {"x": 1}}
    ],
    "scopes": {
        "1": {
            "at": AT,
            "first_seen": AT,
            "state": "covered",
            "targets": {
                "export/daily": {
                    "at": AT,
                    "present": True,
                    "looked_at": AT,
                    "not_before": AT,
                    "attempts": 2,
                    "remembered": {"arn": "x", "columns": ["a"]},
                    "arrivals": [1, 2],
                    "error": {"at": AT, "code": "denied", "message": "m", "result": "manual", "steps": ["a"]},
                }
            },
        }
    },
}


def _read_state(data: bytes) -> None:
    """What is read can be written, and be read again without another loss."""
    document = parse(data, "aws", NOW, {"columns": list[str]})
    written = dump(document, NOW)
    assert dump(parse(written, "aws", NOW, {"columns": list[str]}), NOW) == written


def _stored_ledger() -> bytes:
    made = Ledger("aws", ACCOUNT)
    made.note("1", "daily", {"2026-02": Period(2, 30, NOW, NOW, NOW), "2026-03": Period(1, 3, NOW, NOW)}, NOW)
    made.note("2", "daily", {"2026-03-01": Period(0)}, NOW)
    return zlib.decompress(made.encode(NOW))


_HEAD, _, _ROWS = _stored_ledger().partition(b"\n")
LEDGER = json.loads(_HEAD)


def _ledger(given: tuple[Any, int, int]) -> bytes:
    """Return a stored ledger with another head, and with one byte of its rows changed."""
    head, place, byte = given
    rows = bytearray(_ROWS)
    rows[place % len(rows)] = byte
    return zlib.compress(json.dumps(head).encode() + b"\n" + bytes(rows))


def _read_ledger(data: bytes) -> None:
    """What is read can be read out, compared, merged, and stored again."""
    ledger = decode(data, "aws")
    for scope, dataset in ledger.series():
        ledger.periods(scope, dataset)
    list(ledger.unannounced())
    ledger.digest()
    ledger.oldest()
    ledger.merge(decode(data, "aws"), NOW)
    ledger.compact(NOW)
    decode(ledger.encode(NOW), "aws")


# --- manifests --------------------------------------------------------------------------------------------------------

AWS_MANIFEST = {
    "dataFiles": ["s3://b/p/data/x.csv.gz"],
    "columns": [{"name": "a", "type": "string"}],
    "billingPeriod": "2026-03",
}
AZURE_MANIFEST = {
    "blobs": [{"blobName": "a/b/part_0.csv", "byteCount": 3, "dataRowCount": 1}],
    "deliveryConfig": {"compressionMode": "gzip"},
    "dataRowCount": 1,
}
GCP_MANIFEST = {
    "format": copy_manifest.FORMAT,
    "version": 1,
    "account": "000000-111111-222222",
    "kind": "usage",
    "day": "2026-03-01",
    "table": "p.d.t",
    "watermark": "20260301T093000.123456Z-12",
    "newest_export_time": AT,
    "rows": 12,
    "files": [{"name": "x", "rows": 12, "bytes": 3}],
    "job": "j",
    "written_at": AT,
    "previous": ["y"],
    "schema": "s",
}


def _read_aws_manifest(data: bytes) -> None:
    delivery_manifest.parse_manifest(data, "key", "b").schema.encode()


def _read_azure_manifest(data: bytes) -> None:
    manifests.compare_manifest(data, {"part_0.csv": 3}, sized=True)


def _read_gcp_manifest(data: bytes) -> None:
    found = copy_manifest.parse_manifest(data, "000000-111111-222222", "usage", "2026-03-01")
    if found is not None:
        copy_manifest.parse_watermark(found.watermark)


# --- answers of the clouds' APIs --------------------------------------------------------------------------------------

DATASET = next(iter(datasets_of(AWS).values()))
AWS_EXPORT = {
    "Name": DATASET.name,
    "DataQuery": {
        "QueryStatement": " ".join(("SELECT a, b FROM", DATASET.table, "WHERE x = 1")),
        "TableConfigurations": {DATASET.table: {"TIME_GRANULARITY": "HOURLY"}},
    },
    "DestinationConfigurations": {
        "S3Destination": {
            "S3Bucket": "b",
            "S3Prefix": "dataexport",
            "S3Region": "eu-west-1",
            "S3OutputConfigurations": {"OutputType": "CUSTOM", "Format": "TEXT_OR_CSV", "Compression": "GZIP"},
        }
    },
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "a",
            "Effect": "Deny",
            "Principal": {"AWS": ["*", "AROAABCDEFGHIJKLMNOP"], "Service": "bcm-data-exports.amazonaws.com"},
            "Action": ["s3:*", "s3:PutObjec?"],
            "Resource": "arn:aws:s3:::b/*",
        }
    ],
}
AZURE_LIVE = {
    "name": "TailpipeDataExport-00abcd",
    "id": "/subscriptions/x",
    "identity": {"type": "SystemAssigned"},
    "properties": {
        "format": "Csv",
        "compressionMode": "gzip",
        "partitionData": True,
        "dataOverwriteBehavior": "OverwritePreviousReport",
        "exportDescription": "x",
        "schedule": {"status": "Active", "recurrence": "Daily", "recurrencePeriod": {"from": AT, "to": AT}},
        "definition": {
            "type": "ActualCost",
            "timeframe": "MonthToDate",
            "dataSet": {"granularity": "Daily", "configuration": {"dataVersion": "1.0"}},
        },
        "deliveryInfo": {
            "destination": {
                "resourceId": AZURE.destination[0].id,
                "container": "dataexport",
                "rootFolderPath": f"tailpipe/subscriptions/{SUBSCRIPTION}",
            }
        },
        "runHistory": {"value": [{"properties": {"status": "Completed", "error": {"code": "x"}}}]},
    },
}
PLACEMENT = placement_of(Key(SUBSCRIPTION, AZURE_EXPORT.name, "TailpipeDataExport-00abcd"))
QUERY = {
    "kind": "bigquery#queryResponse",
    "jobComplete": True,
    "schema": {"fields": [{"name": "a"}]},
    "totalRows": "1",
    "rows": [{"f": [{"v": "1"}]}],
    "jobReference": {"projectId": "p", "jobId": "j", "location": "EU"},
}
ERRORS = {
    "error": {
        "code": 403,
        "message": "denied",
        "status": "PERMISSION_DENIED",
        "errors": [{"reason": "forbidden", "message": "m"}],
        "details": [{"reason": "SERVICE_DISABLED", "metadata": {"service": "x"}}],
    }
}
AZURE_ERROR = {
    "error": {
        "code": "RBACAccessDenied",
        "message": "The client does not have access. AADSTS7000222",
        "additionalInfo": [{"type": "PolicyViolation", "info": {"policyAssignmentId": "/x/policyAssignments/y"}}],
        "details": [{"code": "x", "message": "y"}],
    }
}
CLIENT_ERROR = {
    "Error": {"Code": "AccessDenied", "Message": "with an explicit deny in a service control policy"},
    "ResponseMetadata": {"HTTPStatusCode": 403, "HTTPHeaders": {"retry-after": "3", "date": "x"}},
}
CODES = st.sampled_from(
    [
        *("AccessDenied", "Throttling", "ValidationException", "KMS.DisabledException", "NoSuchKey", "301", "", "²"),
        *("OperationInProgressException", "RequestTimeTooSkewed", "ExpiredToken", "SlowDown", "InternalFailure"),
    ]
)
OPERATIONS = st.sampled_from(["CreateExport", "GetTable", "ListAccounts", "PutObject", "CreateStackInstances"])


def _read_aws_export(export: Any) -> None:
    """The export as it passed botocore's model: its texts are texts, its objects are objects."""
    export_definition.query_of(export)
    export_definition.managed_fields(export, DATASET, ("a", "c"), ACCOUNT)
    export_definition.export_definition(DATASET, ("a",), export, AWS, ACCOUNT)


def _texts_kept(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return the export with other texts only, as botocore's model admits it."""
    texts = st.sampled_from(TEXTS) | st.text(max_size=60)
    return st.builds(_with_texts, documents, texts, texts, texts)


def _with_texts(export: Any, statement: str, prefix: str, table: str) -> Any:
    destination = export["DestinationConfigurations"]["S3Destination"]
    query = {"QueryStatement": statement, "TableConfigurations": {table: {prefix: statement}}}
    changed = {**destination, "S3Prefix": prefix, "S3OutputConfigurations": {"Format": table}}
    return {**export, "DataQuery": query, "DestinationConfigurations": {"S3Destination": changed}}


def _read_policy(data: bytes) -> None:
    document = bucket_policy.parsed(data.decode("utf-8", "surrogateescape"))
    statements = bucket_policy.statements_of(document)
    for one in statements:
        bucket_policy.may_block_delivery(one, "arn:aws:s3:::b/probe")
        bucket_policy.label_of(one)
        bucket_policy.normal_statement(one)
    bucket_policy.deleted_principals(statements)
    json.dumps(bucket_policy.merged(document, {"mine": {"Sid": "mine"}}))


def _read_azure_export(live: Any) -> None:
    from azure_function.answers import EXPECTED
    from shared.parsing import require

    live = export_document.validated(require(live, EXPECTED[0][1], "GET"), "GET")
    actual = export_document.normal_form(live, AZURE, NOW)
    export_document.ownership(live, actual, PLACEMENT, {})
    export_document.account_in(live, AZURE)


def _translate_aws(given: tuple[Any, str]) -> None:
    response, operation = given
    found = aws_lambda.errors.translate(ClientError(response, operation))
    assert isinstance(found, ReportedError)
    assert found.remedy
    f"{found.code} {found.message}".encode()


class _Answer(SimpleNamespace):
    """A response of Azure, as the SDK's error reads it."""


def _translate_azure(given: tuple[bytes, int, Mapping[str, str]]) -> None:
    body, status, headers = given
    request = SimpleNamespace(url="https://management.azure.com/subscriptions/x?api-version=1", method="GET")
    response = _Answer(status_code=status, reason="", headers=headers, request=request, content_type="application/json")
    response.text = lambda encoding=None: body.decode("utf-8", "replace")
    response.body = lambda: body
    found = azure_function.errors.translate(HttpResponseError(response=response))
    assert isinstance(found, ReportedError)
    f"{found.code} {found.message}".encode()


def _translate_gcp(given: tuple[bytes, int, Mapping[str, str]]) -> None:
    body, status, headers = given
    response = requests.Response()
    response.status_code, response._content = status, body
    response.headers.update(headers)
    response.request = SimpleNamespace(url="https://storage.googleapis.com/b?x=y", method="GET")  # type: ignore[assignment]  # what the translation reads of it
    try:
        document = json.loads(body).get("error", {})
    except (ValueError, AttributeError, RecursionError):
        document = {}
    errors = document.get("errors", ()) if isinstance(document, dict) else ()
    error: Exception = from_http_status(  # type: ignore[no-untyped-call]  # Google ships it without types
        status, body.decode("utf-8", "replace"), errors=errors if isinstance(errors, list) else (), response=response
    )
    found = gcp_function.errors.translate(error)
    assert isinstance(found, ReportedError)
    f"{found.code} {found.message}".encode()


def _read_query(data: bytes) -> None:
    response = requests.Response()
    response._content = data
    gcp_function.answers.prove(response, "POST /bigquery/v2/projects/p/queries")


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after",
            "Retry-After",
            "retry-after-ms",
            "date",
            "x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after",
        ]
    ),
    st.sampled_from([one for one in TEXTS if one.isascii()] + ["3", "1.5", "-3", "Wed, 04 Mar 2026 05:06:07 GMT"]),
    max_size=2,
)
STATUSES = st.sampled_from([200, 301, 400, 401, 403, 404, 408, 409, 412, 429, 500, 502, 503, 504, 599])


BASES = {
    "aws": {"AWS_REGION": "eu-west-1", "EXPORTS": "cur2"},
    "azure": {"DESTINATION": AZURE.destination[0].id, "STATE_ACCOUNT": "hoststorage"},
    "gcp": {"GOOGLE_CLOUD_PROJECT": "p-export", "DATASET_LOCATION": "EU"},
}


def _settings(cloud: str) -> Reader:
    read, names = SETTINGS[cloud]
    texts = st.sampled_from([one for one in TEXTS if "\x00" not in one]) | st.text(max_size=30)
    changed = st.dictionaries(st.sampled_from([*names, *BASES[cloud]]), texts, max_size=3)
    return Reader("settings", changed.map(lambda some: {**BASES[cloud], **some}), read, (SettingsError,))


HINTS = {"count": 1, "scopes": {"1": ["export"]}, "oldest": AT}
REQUEST = {
    "scopes": ["1"],
    "dry_run": True,
    "force": False,
    "verify_all": True,
    "writes_hash": "",
    "tenant": "acme",
    "round": "20260304T050600Z-abcdef",
    "months": ["2026-02"],
}
READERS: Mapping[str, Reader] = {
    "settings of AWS": _settings("aws"),
    "settings of Azure": _settings("azure"),
    "settings of Google Cloud": _settings("gcp"),
    "requests": Reader("requests", damaged(REQUEST) | ANY, parse_request, (RequestError,)),
    "hints": Reader("requests", damaged(HINTS) | JUNK, parse_hints, (RequestError,)),
    "events of Lambda": Reader(
        "events", damaged(*AWS_EVENTS, OBJECT_EVENT), aws_lambda.handler.request_of, (RequestError,)
    ),
    "events of CloudTrail": Reader(
        "events", spelled(damaged(*AWS_EVENTS)), lambda one: aws_lambda.events.read_event(one, OWN), (EventRefused,)
    ),
    "events of S3": Reader("events", spelled(damaged(OBJECT_EVENT)), _read_object_event, (EventRefused,)),
    "events of Event Grid": Reader(
        "events",
        damaged(GRID_EVENT),
        lambda one: azure_function.delivery_events.read_event(one, AZURE, ["/providers/x"]),
        (EventRefused,),
    ),
    "activity log": Reader("events", damaged(ACTIVITY), _read_activity, (NotUnderstood,)),
    "audit log": Reader(
        "events", spelled(damaged(*AUDITS)), lambda one: gcp_function.events.hint_of(one, GCP), (EventRefused,)
    ),
    "pushes of Pub/Sub": Reader("events", damaged(PUSH) | JUNK, gcp_function.events.pushed),
    "registry": Reader("registry", spelled(damaged(REGISTRY)), _read_registry, (RegistryError,)),
    "state": Reader("state documents", spelled(damaged(STATE)), _read_state, (CorruptState, RunStopped)),
    "ledger": Reader(
        "state documents",
        st.tuples(damaged(LEDGER), st.integers(0, 200), st.integers(0, 255)).map(_ledger),
        _read_ledger,
        (CorruptLedger, NewerLedger),
    ),
    "manifests of AWS": Reader("manifests", spelled(damaged(AWS_MANIFEST)), _read_aws_manifest, (NotUnderstood,)),
    "manifests of Azure": Reader("manifests", spelled(damaged(AZURE_MANIFEST)), _read_azure_manifest),
    "manifests of Google Cloud": Reader("manifests", spelled(damaged(GCP_MANIFEST)), _read_gcp_manifest),
    "exports of AWS": Reader("answers of APIs", _texts_kept(st.just(AWS_EXPORT)), _read_aws_export),
    "bucket policies": Reader("answers of APIs", spelled(damaged(POLICY)), _read_policy, (ValueError,)),
    "errors of AWS": Reader(
        "answers of APIs",
        st.tuples(
            st.fixed_dictionaries(
                {
                    "Error": st.fixed_dictionaries({}, optional={"Code": CODES | JUNK, "Message": JUNK}),
                    "ResponseMetadata": st.fixed_dictionaries(
                        {}, optional={"HTTPStatusCode": STATUSES, "HTTPHeaders": HEADERS}
                    ),
                }
            ),
            OPERATIONS,
        ),
        _translate_aws,
    ),
    "exports of Azure": Reader("answers of APIs", damaged(AZURE_LIVE), _read_azure_export, (NotUnderstood,)),
    "errors of Azure": Reader(
        "answers of APIs", st.tuples(spelled(damaged(AZURE_ERROR)), STATUSES, HEADERS), _translate_azure
    ),
    "rows of BigQuery": Reader("answers of APIs", spelled(damaged(QUERY)), _read_query, (NotUnderstood,)),
    "errors of Google Cloud": Reader(
        "answers of APIs", st.tuples(spelled(damaged(ERRORS)), STATUSES, HEADERS), _translate_gcp
    ),
}


def read(name: str, value: Any) -> bool:
    """Let a reader read a value; return whether it was refused, with an error that has a text."""
    reader = READERS[name]
    try:
        reader.read(value)
    except reader.refusals as error:
        str(error).encode("utf-8", "surrogatepass")
        return True
    return False
