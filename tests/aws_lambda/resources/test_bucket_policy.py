"""Bucket policies: statements in normal form, merging, and statements that block deliveries."""

from __future__ import annotations

from typing import Any

import pytest

from aws_lambda.resources.bucket_policy import (
    POLICY_LIMIT,
    deleted_principals,
    label_of,
    may_block_delivery,
    merged,
    normal_statement,
    parsed,
    statements_of,
)
from aws_lambda.targets import TLS_SID

PROBE = "arn:aws:s3:::bucket/exports/a[1].parquet"
SERVICE = "bcm-data-exports.amazonaws.com"
DENY: dict[str, Any] = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "*"}


def test_order_and_form_of_a_statement_are_not_drift() -> None:
    """A string and a list with one string, in any order, mean the same to AWS."""
    one: dict[str, Any] = {"Action": "s3:*", "Principal": "*", "Resource": ["b", "a"]}
    other: dict[str, Any] = {"Action": ["s3:*"], "Principal": {"AWS": "*"}, "Resource": ["a", "b"]}
    one["Condition"], other["Condition"] = {"Bool": {"x": False}}, {"Bool": {"x": ["false"]}}
    assert normal_statement(one) == normal_statement(other)
    one["Condition"], other["Condition"] = {"Bool": {"x": True}}, {"Bool": {"x": "true"}}
    assert normal_statement(one) == normal_statement(other)
    assert normal_statement({"NotAction": "a", "NotResource": "b"}) == {"NotAction": ["a"], "NotResource": ["b"]}


@pytest.mark.parametrize("text", ["[]", '"text"', "7", '{"Statement": "Deny"}', '{"Statement": [{}, 1]}', "{"])
def test_text_that_is_not_a_policy_is_rejected(text: str) -> None:
    """Writing our statements over it would destroy what another owner wrote."""
    with pytest.raises(ValueError, match=r"."):
        parsed(text)


def test_policy_may_have_one_statement_several_or_none() -> None:
    """AWS accepts a single statement without a list."""
    assert parsed("") == {}
    assert statements_of(parsed('{"Version": "2012-10-17"}')) == []
    assert statements_of(parsed('{"Statement": {"Sid": "a"}}')) == [{"Sid": "a"}]
    assert statements_of(parsed('{"Statement": [{"Sid": "a"}, {}]}')) == [{"Sid": "a"}, {}]


def test_merged_policy_keeps_the_version_and_other_statements() -> None:
    """A new policy has the current version of the language; an existing one keeps its own."""
    own = {"ours": {"Sid": "ours", "Effect": "Allow"}}
    assert merged({}, own) == {"Version": "2012-10-17", "Statement": [own["ours"]]}
    live = {"Version": "2008-10-17", "Id": "x", "Statement": [{"Sid": "theirs"}, {"Sid": "ours", "Effect": "Deny"}, {}]}
    assert merged(live, own) == {**live, "Statement": [{"Sid": "theirs"}, {}, own["ours"]]}


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({}, True),
        ({"Effect": "Allow"}, False),
        ({"Sid": TLS_SID}, False),
        ({"Sid": "theirs"}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Principal": {"AWS": ["arn:aws:iam::123456789012:root", "*"]}}, True),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, False),
        ({"Principal": {"Service": SERVICE}}, True),
        ({"Principal": {"Service": ["logging.s3.amazonaws.com", SERVICE]}}, True),
        ({"Principal": {"Service": "logging.s3.amazonaws.com"}}, False),
        ({"Principal": None}, False),
        ({"Action": ["s3:GetObject", "s3:PUTOBJECT"]}, True),
        ({"Action": "s3:Put*"}, True),
        ({"Action": "s3:GetObject"}, False),
        ({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}, False),
        ({"Resource": "arn:aws:s3:::bucket/*"}, True),
        ({"Resource": ["arn:aws:s3:::other/*", "arn:aws:s3:::bucket/exports/a[1].parquet"]}, True),
        ({"Resource": "arn:aws:s3:::bucket/exports/a?1].parquet"}, True),
        ({"Resource": "arn:aws:s3:::other/*"}, False),
        ({"Condition": {"Bool": {"aws:SecureTransport": "false"}}}, True),
    ],
)
def test_deny_statement_blocks_deliveries_if_it_matches_the_services_write(
    changes: dict[str, Any], blocks: bool
) -> None:
    """By principal, action and resource; our own statement requires TLS, which the service uses."""
    assert may_block_delivery({**DENY, **changes}, PROBE) is blocks


def test_deleted_principals_are_listed_by_statement() -> None:
    """S3 rejects a policy with the unique id of a deleted user or role: it has to be removed before the next change."""
    role, user = "AROAEXAMPLEEXAMPLE1", "AIDAEXAMPLEEXAMPLE2"
    statements: list[dict[str, Any]] = [
        {"Sid": "a", "Principal": {"AWS": [role, "arn:aws:iam::123456789012:root", user]}},
        {"Effect": "Allow", "Action": ["s3:A", "s3:B", "s3:C", "s3:D"], "Principal": {"AWS": role}},
        {"Sid": "b", "Principal": {"AWS": "123456789012", "Service": SERVICE}},
        {"Sid": "c", "Principal": "*"},
        {"Sid": "d"},
    ]
    assert deleted_principals(statements) == {
        "a": [role, user],
        "(without Sid: Allow s3:A, s3:B, s3:C)": [role],
    }
    assert label_of({"Effect": "Deny", "NotAction": "s3:A"}) == "(without Sid: Deny s3:A)"


def test_policy_has_the_documented_limit() -> None:
    """Source: "Bucket policies are limited to 20 KB in size", Amazon S3 User Guide."""
    assert POLICY_LIMIT == 20 * 1024
