"""The bucket's own statements and rules as they must be, and the one normal form in which they are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aws_lambda.clients import EXPORT_REGIONS
from aws_lambda.settings import AwsSettings

TLS_SID = "TailpipeTlsOnly"
EXPORTS_SID = "TailpipeDataExports"
# Exports overwrite the current and the previous month; after 90 days a file rests. Both classes are read at once, as
# the connector needs, and neither takes objects below 128 KB unless told to.
TIERS = (("STANDARD_IA", 90), ("GLACIER_IR", 365))
RUNS_KEPT_DAYS = 90
# Classes whose objects cannot be read before they are restored, which takes hours and a right that no reader has.
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
KEPT_DAYS = 90  # what rests or goes only after so many days has been read, and its month is no longer restated
POLICY_LIMIT = 20_480  # bytes; "Bucket policies are limited to 20 KB in size", Amazon S3 User Guide
STATEMENT_LISTS = ("Action", "NotAction", "Resource", "NotResource")


def own_statements(account: str, settings: AwsSettings, exporting: bool = True) -> dict[str, dict[str, Any]]:
    """Return the function's own bucket-policy statements by Sid, in the form in which they are compared.

    Source: "Setting up an Amazon S3 bucket for data exports", AWS Data Exports User Guide. The grant covers the whole
    bucket because the service writes its test object at the root.
    """
    arn = f"arn:{settings.partition}:s3:::{settings.bucket_of(account)}"
    statements: dict[str, dict[str, Any]] = {
        TLS_SID: {
            "Sid": TLS_SID,
            "Effect": "Deny",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:*"],
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": ["false"]}},
        }
    }
    home = EXPORT_REGIONS.get(settings.partition)
    if exporting and home:
        of_account = f"{home}:{account}"
        statements[EXPORTS_SID] = {
            "Sid": EXPORTS_SID,
            "Effect": "Allow",
            "Principal": {"Service": export_principals(settings.partition)},
            "Action": ["s3:GetBucketPolicy", "s3:PutObject"],
            "Resource": [arn, f"{arn}/*"],
            "Condition": {
                "ArnLike": {
                    "aws:SourceArn": [
                        f"arn:{settings.partition}:bcm-data-exports:{of_account}:export/*",
                        f"arn:{settings.partition}:cur:{of_account}:definition/*",
                    ]
                },
                "StringEquals": {"aws:SourceAccount": [account]},
            },
        }
    return statements


def export_principals(partition: str) -> list[str]:
    """Return the service principals that deliver exports.

    They end in amazonaws.com in every partition. S3 refuses a whole policy that names a principal which does not
    exist, so the older one is named only where the older service is (botocore's endpoints of ``cur``).
    """
    older = ["billingreports.amazonaws.com"] if partition in ("aws", "aws-cn") else []
    return ["bcm-data-exports.amazonaws.com", *older]


def lifecycle_rules(settings: AwsSettings) -> dict[str, dict[str, Any]]:
    """Return the function's own lifecycle rules by id, as S3 takes them."""
    return {
        "exports-to-cheaper-tiers": {
            "ID": "exports-to-cheaper-tiers",
            "Status": "Enabled",
            "Filter": {"Prefix": f"{settings.prefix}/"},
            "Transitions": [{"Days": days, "StorageClass": storage} for storage, days in TIERS],
        },
        "expire-run-reports": {
            "ID": "expire-run-reports",
            "Status": "Enabled",
            "Filter": {"Prefix": "runs/"},
            "Expiration": {"Days": RUNS_KEPT_DAYS},
        },
    }


def normal_statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    """Return a statement with every value that may be one or many as a sorted list of texts."""
    normal: dict[str, Any] = dict(statement)
    for name in STATEMENT_LISTS:
        if name in normal:
            normal[name] = _texts(normal[name])
    if "Principal" in normal:
        principal = {"AWS": "*"} if normal["Principal"] == "*" else normal["Principal"]
        normal["Principal"] = _listed(principal)
    conditions = normal.get("Condition")
    if isinstance(conditions, dict):
        normal["Condition"] = {operator: _listed(keys) for operator, keys in conditions.items()}
    return normal


def _listed(values: Any) -> Any:
    return {key: _texts(value) for key, value in values.items()} if isinstance(values, dict) else values


def _texts(value: Any) -> list[str]:
    return sorted("true" if one is True else "false" if one is False else str(one) for one in many(value))


def many(value: Any) -> list[Any]:
    """Return a value that may be one or many as a list."""
    return value if isinstance(value, list) else [value]


def sid_of(statement: Mapping[str, Any]) -> str:
    """Return a statement's Sid, empty if it has none."""
    return str(statement.get("Sid", ""))


def parsed(text: str) -> dict[str, Any]:
    """Return the policy as an object, empty for no policy. Raises ValueError if it is none."""
    if not text:
        return {}
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict) or not all(isinstance(one, dict) for one in many(document.get("Statement", []))):
        raise ValueError("not a policy")
    return document


def statements_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of a policy."""
    return many(document.get("Statement", []))


def merged(document: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the policy with the own statements in place of those of the same Sid, everything else as it was."""
    kept = [one for one in statements_of(document) if sid_of(one) not in own]
    return {"Version": "2012-10-17", **document, "Statement": [*kept, *own.values()]}


def harm_of(rule: Mapping[str, Any], prefix: str) -> str:
    """Return ``expires`` or ``archives`` where a lifecycle rule takes young exports away, else nothing.

    `prefix` is that of the exports, without a slash at its end. Rules for tagged objects do not meet them.
    """
    place = rule.get("Filter") or {}
    place = place.get("And", place)
    own, other = f"{prefix}/", str(place.get("Prefix", rule.get("Prefix", "")))
    meets = own.startswith(other) or other.startswith(own)
    if rule.get("Status") != "Enabled" or not meets or "Tag" in place or place.get("Tags"):
        return ""
    if _is_early(rule.get("Expiration", {})):
        return "expires"
    archiving = [one for one in rule.get("Transitions", []) if one.get("StorageClass") in ARCHIVES]
    return "archives" if any(_is_early(one) for one in archiving) else ""


def _is_early(when: Mapping[str, Any]) -> bool:
    days = when.get("Days")
    return "Date" in when or (isinstance(days, int) and days < KEPT_DAYS)


def normal_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule in the form in which it is compared."""
    scope = rule.get("Filter") or {}
    return {
        "status": rule.get("Status"),
        "prefix": scope.get("Prefix", rule.get("Prefix", "")),
        "further": sorted(set(scope) - {"Prefix"}),
        "transitions": sorted((one.get("StorageClass"), one.get("Days")) for one in rule.get("Transitions", [])),
        "expires": rule.get("Expiration", {}).get("Days"),
    }
